//! The system calls that are refused: those that administrate a machine, that have been ways out of a box, or that make more boxes.
//!
//! A list of what is refused, and not of what is allowed: programs meet no surprise, and what a list of allowed calls would add, the
//! user namespace and the dropped capabilities refuse by themselves. Calls that are newer than this list do not exist inside.
//! Each check is a comparison and the answer right after it, so there are no long jumps; the kernel remembers the answer of each
//! call that is allowed without a look at its arguments, so the length of the list costs nothing.

use libc::sock_filter;

use crate::sys;

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

/// The newest call that was looked at.
const NEWEST: i64 = libc::SYS_mseal;

/// Mounts, and namespaces to make them in: refused by EPERM, but to a nested workload.
const NESTING: &[i64] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    // Keyrings are not of any namespace.
    libc::SYS_keyctl,
];

/// Refused by EPERM, as the kernel refuses who is not root.
const REFUSED: &[i64] = &[
    // A file by its number, past every directory and mount.
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // Code for the kernel.
    libc::SYS_bpf,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    // Help to win races in the kernel, and a look at it.
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_kcmp,
    libc::SYS_lookup_dcookie,
    libc::SYS_fanotify_init,
    // Its work is done past this filter.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // The machine.
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_nfsservctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_sysfs,
];

/// Namespaces that clone(2) could make; CLONE_NEWTIME is none of them, its bit is one of the signal's there.
const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP;

/// Puts a character into the input of a terminal, as if it had been typed by who sits there; and a selection of the console.
const TERMINAL_INPUT: [u64; 2] = [libc::TIOCSTI, 0x541c];

/// `KEYCTL_JOIN_SESSION_KEYRING`: what a container runtime needs, to leave a keyring behind. All after it do more.
const JOIN_KEYRING: u32 = 1;

/// Sockets that lead out of every network namespace, to the hypervisor and into the kernel's cryptography.
const SOCKETS: [i32; 2] = [libc::AF_VSOCK, libc::AF_ALG];

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
const EAFNOSUPPORT: u32 = libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT.cast_unsigned();

// Where `struct seccomp_data` has what is asked about.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST: u32 = 16;
const SECOND: u32 = 24;

const EQUAL: u32 = libc::BPF_JEQ;
const ABOVE: u32 = libc::BPF_JGT;
const ANY_BIT: u32 = libc::BPF_JSET;

/// Installs the filter; of a nested workload if it `nests`.
pub(crate) fn install(nests: bool) -> nix::Result<()> {
    sys::install_filter(&filter(nests))
}

fn filter(nests: bool) -> Vec<sock_filter> {
    let mut program = vec![load(ARCHITECTURE)];
    // Another architecture's calls have other numbers.
    program.extend([skip_if(EQUAL, ARCH, 1), answer(ENOSYS), load(NUMBER)]);
    // The numbers of x32 are up there, too.
    program.extend(when(ABOVE, word(NEWEST), ENOSYS));
    for &call in REFUSED {
        program.extend(when(EQUAL, word(call), EPERM));
    }
    if nests {
        program.extend(by_argument(libc::SYS_keyctl, FIRST, &[(ABOVE, JOIN_KEYRING, EPERM)]));
    } else {
        // Its flags are in memory, where no filter sees them; the C library then falls back to clone.
        program.extend(when(EQUAL, word(libc::SYS_clone3), ENOSYS));
        for &call in NESTING {
            program.extend(when(EQUAL, word(call), EPERM));
        }
        program.extend(by_argument(libc::SYS_clone, FIRST, &[(ANY_BIT, NAMESPACES.cast_unsigned(), EPERM)]));
    }
    let terminal = TERMINAL_INPUT.map(|request| (EQUAL, word(request.cast_signed()), EPERM));
    program.extend(by_argument(libc::SYS_ioctl, SECOND, &terminal));
    let sockets = SOCKETS.map(|family| (EQUAL, family.cast_unsigned(), EAFNOSUPPORT));
    program.extend(by_argument(libc::SYS_socket, FIRST, &sockets));
    program.push(answer(ALLOW));
    program
}

/// If the call is `call`: its argument decides, of which the kernel uses the low half in all these cases.
fn by_argument(call: i64, argument: u32, checks: &[(u32, u32, u32)]) -> Vec<sock_filter> {
    let mut inside = vec![load(argument)];
    for &(condition, value, refusal) in checks {
        inside.extend(when(condition, value, refusal));
    }
    inside.push(answer(ALLOW));
    let length = u8::try_from(inside.len()).unwrap_or(u8::MAX);
    let mut all = vec![statement(libc::BPF_JMP | EQUAL | libc::BPF_K, word(call), 0, length)];
    all.extend(inside);
    all
}

fn when(condition: u32, value: u32, then: u32) -> [sock_filter; 2] {
    [statement(libc::BPF_JMP | condition | libc::BPF_K, value, 0, 1), answer(then)]
}

fn skip_if(condition: u32, value: u32, count: u8) -> sock_filter {
    statement(libc::BPF_JMP | condition | libc::BPF_K, value, count, 0)
}

fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

fn answer(value: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, value, 0, 0)
}

fn statement(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: u16::try_from(code).unwrap_or(0), jt, jf, k }
}

/// The low half of a number that the tables have as a long.
#[expect(clippy::cast_sign_loss, reason = "the low half is taken as it is")]
const fn word(number: i64) -> u32 {
    (number & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The filter's answer, by a reader of the few instructions that it is made of.
    fn asked(program: &[sock_filter], arch: u32, number: i64, first: u64, second: u64) -> u32 {
        let (mut at, mut held) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let jump = match u32::from(code) {
                c if c == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    held = match k {
                        NUMBER => word(number),
                        ARCHITECTURE => arch,
                        FIRST => word(first.cast_signed()),
                        _ => word(second.cast_signed()),
                    };
                    continue;
                }
                c if c == libc::BPF_RET | libc::BPF_K => return k,
                c if c == libc::BPF_JMP | EQUAL | libc::BPF_K => held == k,
                c if c == libc::BPF_JMP | ABOVE | libc::BPF_K => held > k,
                _ => held & k != 0,
            };
            at += usize::from(if jump { jt } else { jf });
        }
    }

    fn call(number: i64, first: u64, second: u64) -> u32 {
        asked(&filter(false), ARCH, number, first, second)
    }

    #[test]
    fn a_nested_workload_may_mount_and_make_namespaces_and_no_more() {
        let call = |number: i64, first: u64| asked(&filter(true), ARCH, number, first, 0);
        assert!(REFUSED.iter().all(|&number| call(number, 0) == EPERM));
        assert!(NESTING.iter().all(|&number| call(number, 0) == ALLOW));
        assert_eq!((call(libc::SYS_clone3, 0), call(libc::SYS_clone, u64::MAX)), (ALLOW, ALLOW));
        assert_eq!((call(libc::SYS_keyctl, 1), call(libc::SYS_keyctl, 2)), (ALLOW, EPERM));
        assert_eq!(call(NEWEST + 1, 0), ENOSYS);
    }

    #[test]
    fn what_administrates_is_refused_and_work_is_not() {
        assert!(REFUSED.iter().chain(NESTING).all(|&number| call(number, 0, 0) == EPERM));
        for number in [libc::SYS_read, libc::SYS_execve, libc::SYS_chroot, libc::SYS_futex, NEWEST] {
            assert_eq!(call(number, 0, 0), ALLOW, "{number}");
        }
    }

    #[test]
    fn arguments_decide() {
        let thread = libc::CLONE_VM | libc::CLONE_THREAD | libc::SIGCHLD;
        let clone = |flags: i32| call(libc::SYS_clone, u64::from(flags.cast_unsigned()), 0);
        assert_eq!((clone(thread), clone(libc::CLONE_NEWUSER | libc::SIGCHLD)), (ALLOW, EPERM));
        assert_eq!(clone(libc::CLONE_NEWNS), EPERM);
        assert_eq!(
            (call(libc::SYS_ioctl, 0, libc::TIOCSTI), call(libc::SYS_ioctl, 0, 0x5401)),
            (EPERM, ALLOW)
        );
        // The kernel looks at the low half alone.
        assert_eq!(call(libc::SYS_ioctl, 0, libc::TIOCSTI | 1 << 32), EPERM);
        assert_eq!((call(libc::SYS_socket, 40, 0), call(libc::SYS_socket, 2, 0)), (EAFNOSUPPORT, ALLOW));
    }

    #[test]
    fn other_numbers_do_not_exist() {
        assert_eq!(call(libc::SYS_clone3, 0, 0), ENOSYS);
        assert_eq!(call(NEWEST + 1, 0, 0), ENOSYS);
        assert_eq!(call(0x4000_0000 + libc::SYS_mount, 0, 0), ENOSYS, "x32");
        assert_eq!(asked(&filter(false), 0x4000_0003, libc::SYS_read, 0, 0), ENOSYS, "i386");
    }
}
