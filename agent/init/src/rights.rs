//! What the command may do: capabilities, no_new_privs, limits of its processes.

use nix::errno::Errno;
use nix::sys::prctl::set_no_new_privs;
use nix::unistd::{Uid, setgroups, setresgid, setresuid};

use crate::order::{Order, Rlimit};
use crate::tree::Step;
use crate::user::User;
use crate::{seccomp, sys};

/// Kill, setgid, setuid, setpcap: what it takes to become another user, to leave nothing of it to that one, and to send it signals.
const TO_BECOME: u64 = 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8;
/// The kernel's sets have this many bits; it knows fewer capabilities than that.
const CAPABILITIES: u8 = 64;

/// Raises hard limits to what is wanted, while there are the rights to do so. The soft ones stay: this program has work to do.
pub(crate) fn make_room(rlimits: &[Rlimit]) -> Result<(), String> {
    for wanted in rlimits {
        let what = format!("raise limit {}", wanted.resource);
        let (soft, hard) = sys::limit(wanted.resource).step(&what)?;
        if wanted.hard > hard {
            sys::set_limit(wanted.resource, soft, wanted.hard).step(&what)?;
        }
    }
    Ok(())
}

/// Makes `user` the one that namespaces to come belong to, and keeps all capabilities. What is counted for each user of the host
/// (inotify instances and watches, locked memory, namespaces) is counted for whoever made the user namespace, too: without this, for
/// the host's root, and one box could use up what the host's own services need.
pub(crate) fn act_as(user: u32) -> nix::Result<()> {
    sys::keep_capabilities()?;
    let same = Uid::from_raw(u32::MAX);
    setresuid(same, Uid::from_raw(user), same)
}

/// Sets the limits of this process, the command's.
pub(crate) fn limit(rlimits: &[Rlimit]) -> Result<(), String> {
    rlimits.iter().try_for_each(|wanted| {
        sys::set_limit(wanted.resource, wanted.soft, wanted.hard)
            .step(&format!("set limit {}", wanted.resource))
    })
}

/// Gives up what is not to be kept, for this process and all that come of it. Last of all steps: the others need it.
pub(crate) fn give_up(order: &Order) -> Result<(), String> {
    // Whatever is kept: those of the agent's are none of the command's, which may be another user by then.
    sys::clear_inheritable().and_then(|()| sys::clear_ambient()).step("clear inheritable capabilities")?;
    let filter = || if order.seccomp { seccomp::install(order.nested) } else { Ok(()) };
    // Whoever has not promised to gain nothing by an execution must still be root to install a filter.
    if !order.no_new_privs {
        filter().step("install the seccomp filter")?;
    }
    if let Some(kept) = order.capabilities {
        // The command gives these up when it becomes who it is; this process cannot be looked into.
        let kept = if order.user.is_some() { kept | TO_BECOME } else { kept };
        bound(kept).and_then(sys::set_capabilities).step("drop capabilities")?;
    }
    if order.no_new_privs {
        set_no_new_privs().step("set no_new_privs")?;
        filter().step("install the seccomp filter")?;
    }
    Ok(())
}

/// Becomes another user, with what that one keeps: of capabilities nothing, unless it is root after all.
pub(crate) fn become_user(user: &User, order: &Order) -> Result<(), String> {
    let kept = order.capabilities.map(bound).transpose().step("drop capabilities")?;
    setgroups(&user.groups)
        .and_then(|()| setresgid(user.gid, user.gid, user.gid))
        .and_then(|()| setresuid(user.uid, user.uid, user.uid))
        .step(&format!("become user {} of group {}", user.uid, user.gid))?;
    match kept {
        Some(kept) if user.uid.is_root() => sys::set_capabilities(kept).step("drop capabilities"),
        Some(_) | None => Ok(()),
    }
}

/// Takes all others out of what can ever be had. Returns what is left, which is less where the agent itself was kept from some.
fn bound(kept: u64) -> nix::Result<u64> {
    for capability in (0..CAPABILITIES).filter(|c| kept & (1 << c) == 0) {
        match sys::drop_bounding(capability) {
            // The kernel knows no more than those before.
            Err(Errno::EINVAL) => break,
            other => other?,
        }
    }
    Ok((0..CAPABILITIES).filter(|c| sys::is_in_bounds(*c)).fold(0, |left, c| left | 1 << c))
}
