//! `bellows-kernel`: runs programs under a real kernel with the whole of cgroup v2. See `--help`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use bellows_tests::guest::job::{CODE_HARNESS_FAILED, Outcome};
use bellows_tests::guest::native::Native;
use bellows_tests::guest::session::{self, Interrupted, Options, Session};
use bellows_tests::guest::signals::{ENDINGS, Signals, exit_code};
use bellows_tests::guest::size::Size;
use bellows_tests::guest::{kernel, setup};
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Runs any program of this machine as root under a kernel with cgroup v2: on the machine itself where its cgroups
/// allow that, else in a QEMU guest that sees the machine's files. The guest keeps working directory and environment;
/// what it writes stays in it, but for $BELLOWS_OUT.
#[derive(Debug, Parser)]
#[command(after_help = "\
The program finds in its environment:
  BELLOWS_CGROUP       a cgroup v2 directory to use as one's own root
  BELLOWS_SCRATCH      a directory on a disk (ext4 in a guest)
  BELLOWS_OUT          a directory for result files, see --out
  BELLOWS_KERNEL_KIND  native, kvm or tcg (translated: about ten times slower)

Exit codes: the program's; 128+N for signal N; 124 at the timeout; 125 if the harness fails; 127 if the program \
cannot be started.")]
struct Cli {
    /// Where programs run: `auto` is `native` where the machine's cgroups allow it
    #[arg(long, env = "BELLOWS_KERNEL", value_enum, default_value_t = Place::Auto)]
    kernel: Place,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Place {
    Auto,
    Native,
    Qemu,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Installs the packages that are missing and fetches the guest's kernel
    Setup {
        #[command(flatten)]
        suite: Suite,
        #[command(flatten)]
        extras: setup::Extras,
    },
    /// Boots a guest for one program
    Run {
        #[command(flatten)]
        guest: GuestArgs,
        /// Seconds after which the program is killed
        #[arg(long, value_name = "SECS", default_value_t = 600)]
        timeout: u64,
        /// Program and arguments
        #[arg(last = true, required = true, value_name = "PROG")]
        argv: Vec<OsString>,
    },
    /// Boots a guest for as long as a command of the host runs; its `exec`s and cargo's programs run in the guest
    With {
        #[command(flatten)]
        guest: GuestArgs,
        /// Seconds after which the command is killed
        #[arg(long, value_name = "SECS", default_value_t = 3600)]
        timeout: u64,
        /// Command and arguments
        #[arg(last = true, required = true, value_name = "CMD")]
        argv: Vec<OsString>,
    },
    /// Runs a program in the guest of `with`; outside of one, like `run`
    Exec {
        /// Seconds after which the program is killed; within `with` as many as that was given
        #[arg(long, value_name = "SECS", env = session::TIMEOUT_VARIABLE, default_value_t = 900)]
        timeout: u64,
        /// Program and arguments
        #[arg(last = true, required = true, value_name = "PROG")]
        argv: Vec<OsString>,
    },
}

#[derive(Debug, Args)]
struct Suite {
    /// Debian suite of the kernel, and of systemd; for instance bookworm-backports, trixie, trixie-backports [default: the machine's]
    #[arg(long, env = "BELLOWS_SUITE")]
    suite: Option<String>,
}

#[derive(Debug, Args)]
struct GuestArgs {
    /// Memory of the guest
    #[arg(long, default_value = "3G")]
    memory: Size,
    /// Processors of the guest
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// Port of 127.0.0.1 that leads to the same port of the guest; may be repeated
    #[arg(long = "forward", value_name = "PORT")]
    forwards: Vec<u16>,
    /// Size of a swap area [default: no swap]
    #[arg(long, value_name = "SIZE")]
    swap: Option<Size>,
    /// Size of the disk of $BELLOWS_SCRATCH
    #[arg(long, value_name = "SIZE", default_value = "2G")]
    scratch: Size,
    /// Where to copy what is in $BELLOWS_OUT at the end
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    suite: Suite,
    /// PID 1 is that suite's systemd, on a root file system of its own: always in a guest
    #[arg(long)]
    systemd: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let error = match act(cli) {
        Ok(code) => return ExitCode::from(code),
        Err(error) => error,
    };
    if let Some(interrupted) = error.downcast_ref::<Interrupted>() {
        return ExitCode::from(128 | exit_code(interrupted.0 as i32));
    }
    eprintln!("bellows-kernel: {error:#}");
    ExitCode::from(CODE_HARNESS_FAILED)
}

fn act(cli: Cli) -> Result<u8> {
    let place = cli.kernel;
    match cli.action {
        Action::Setup { suite, extras } => set_up(suite, extras),
        Action::Run { guest, timeout, argv } => {
            run(place, guest, &argv, Duration::from_secs(timeout)).map(Outcome::code)
        }
        Action::With { guest, timeout, argv } => with(place, guest, &argv, Duration::from_secs(timeout)),
        Action::Exec { timeout, argv } => {
            let timeout = Duration::from_secs(timeout);
            let signals = Signals::catch(&ENDINGS)?;
            if let Some(result) = session::run_in_given_guest(&argv, timeout, &signals) {
                return result.map(Outcome::code);
            }
            // The defaults of `run` are written down once: in its arguments.
            let Action::Run { guest, .. } =
                Cli::try_parse_from(["bellows-kernel", "run", "--", "true"])?.action
            else {
                unreachable!("`run` parses as run");
            };
            run(place, guest, &argv, timeout).map(Outcome::code)
        }
    }
}

fn set_up(suite: Suite, extras: setup::Extras) -> Result<u8> {
    match setup::set_up(&suite.resolve()?, extras) {
        Ok(()) => Ok(0),
        Err(error) => {
            eprintln!("bellows-kernel: {error:#}");
            Ok(1)
        }
    }
}

fn run(place: Place, guest: GuestArgs, argv: &[OsString], timeout: Duration) -> Result<Outcome> {
    let signals = Signals::catch(&ENDINGS)?;
    if let Some(native) = find_native(guest.place(place))? {
        return native.run(argv, timeout, guest.out.as_deref(), &signals);
    }
    let options = guest.resolve()?;
    let mut session = Session::boot(&options, &signals)?;
    let outcome = session.run(argv, timeout)?;
    session.end(options.out.as_deref())?;
    Ok(outcome)
}

fn with(place: Place, guest: GuestArgs, argv: &[OsString], timeout: Duration) -> Result<u8> {
    let signals = Signals::catch(&ENDINGS)?;
    if find_native(guest.place(place))?.is_some() {
        // Each `exec` gets a cgroup of its own.
        let mut command = Command::new(argv.first().context("no command named")?);
        command.args(&argv[1..]).env("BELLOWS_KERNEL", "native");
        return session::accompany(&mut command, timeout, &signals);
    }
    let options = guest.resolve()?;
    let mut session = Session::boot(&options, &signals)?;
    let code = session.accompany(argv, timeout)?;
    session.end(options.out.as_deref())?;
    Ok(code)
}

fn find_native(place: Place) -> Result<Option<Native>> {
    match place {
        Place::Qemu => Ok(None),
        Place::Native => Native::prepare().map(Some),
        Place::Auto => Ok(Native::prepare().ok()),
    }
}

impl Suite {
    fn resolve(self) -> Result<String> {
        self.suite.map_or_else(kernel::default_suite, Ok)
    }
}

impl GuestArgs {
    /// The PID 1 of this machine is not to be tried out.
    fn place(&self, wanted: Place) -> Place {
        if self.systemd { Place::Qemu } else { wanted }
    }

    fn resolve(self) -> Result<Options> {
        let Self { memory, cpus, forwards, swap, scratch, out, suite, systemd } = self;
        Ok(Options { memory, cpus, forwards, swap, scratch, out, suite: suite.resolve()?, systemd })
    }
}
