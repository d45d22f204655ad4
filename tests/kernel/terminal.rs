//! Terminals: a shell at one does what it does anywhere, whatever becomes of the agent; and who is detached is attached to again.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use bellows::journal::What;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{Termios, tcgetattr};

use crate::boxed::TENANT;
use crate::life::told;
use crate::rig::{Agent, eventually, eventually_or_tell, is_ended, is_launched, read};

/// Says that it runs, and does so for long.
const RUNS: &str = "sh -c 'echo $((1 + 1)) runs; exec sleep 300'";

/// Somebody who sits at a terminal, at which a command runs.
pub(crate) struct Sitter {
    master: File,
    slave: OwnedFd,
    name: PathBuf,
    before: Termios,
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Sitter {
    /// At a terminal of 33 rows and 99 columns, which is the controlling one of the command.
    pub(crate) fn sit(command: &Command) -> Self {
        let size = Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("a terminal");
        for fd in [&pty.master, &pty.slave] {
            // The command must not hold what its hanging up is about.
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("fcntl");
        }
        let end = || Stdio::from(pty.slave.try_clone().expect("dup"));
        let child = Command::new("setsid")
            .arg("--ctty")
            .arg(command.get_program())
            .args(command.get_args())
            .env("TERM", "dumb")
            .env("PS1", "ready> ")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("setsid");
        let said = Arc::new(Mutex::new(String::new()));
        let (heard, mut from) = (Arc::clone(&said), File::from(pty.master.try_clone().expect("dup")));
        thread::spawn(move || {
            let mut piece = [0_u8; 4096];
            while let Ok(length @ 1..) = from.read(&mut piece) {
                heard.lock().expect("lock").push_str(&String::from_utf8_lossy(&piece[..length]));
            }
        });
        Self {
            name: nix::unistd::ttyname(&pty.slave).expect("its name"),
            before: tcgetattr(&pty.slave).expect("termios"),
            master: pty.master.into(),
            slave: pty.slave,
            child,
            said,
        }
    }

    pub(crate) fn type_in(&self, text: &str) {
        (&self.master).write_all(text.as_bytes()).expect("type");
    }

    /// Waits until something is said; all that was said up to then, and is forgotten.
    pub(crate) fn hears(&self, wanted: &str) -> String {
        let heard = Mutex::new(String::new());
        let is_said = || {
            let mut said = self.said.lock().expect("lock");
            let end = said.find(wanted).map(|at| at + wanted.len());
            end.map(|end| heard.lock().expect("lock").extend(said.drain(..end))).is_some()
        };
        eventually_or_tell(&format!("{wanted:?} is said"), is_said, || format!("{:?}", self.said()));
        heard.into_inner().expect("lock")
    }

    fn said(&self) -> String {
        self.said.lock().expect("lock").clone()
    }

    /// Types a command, and waits for what comes of it. What is typed is shown, too, before or after the shell asks for it: so it
    /// must not be the same.
    fn asks(&self, command: &str, answer: &str) {
        self.type_in(&format!("{command}\n"));
        self.hears(answer);
    }

    fn resize(&self, rows: u16, columns: u16) {
        let (rows, columns) = (rows.to_string(), columns.to_string());
        let stty =
            Command::new("stty").arg("-F").arg(&self.name).args(["rows", &rows, "cols", &columns]).status();
        assert!(stty.expect("stty").success());
    }

    /// Waits for the end of the command; the terminal has to be again what it was.
    pub(crate) fn ends(mut self, code: i32) {
        let status = self.child.wait().expect("its end");
        assert_eq!(status.code(), Some(code), "{}", self.said());
        assert_eq!(
            tcgetattr(self.slave.as_fd()).expect("termios"),
            self.before,
            "the terminal is given back"
        );
    }
}

fn run(agent: &Agent, name: &str, flags: &[&str], command: &[&str]) -> Command {
    let mut run = agent.command("run");
    run.args(["--name", name, "--memory", "16M..64M", "-t", "--env", "PS1=ready> "])
        .args(flags)
        .arg("--")
        .args(command);
    run
}

#[test]
fn a_shell_at_a_terminal_in_a_box_outlives_the_agent() {
    let mut agent = Agent::start(&[]);
    let sitter = Sitter::sit(&run(&agent, "shell", &TENANT, &["sh"]));
    sitter.hears("ready> ");
    sitter.asks("tty", "/dev/pts/0\r\n");
    sitter.asks("stty size", "33 99\r\n");
    // Whose the terminal is, and what else of one is in there.
    sitter.asks(
        "stat -c '%u:%a' $(tty); ls /proc/self/fd | tr '\\n' ' '; ls /dev/pts",
        "0:620\r\n0 1 2 3 0  ptmx",
    );
    sitter.resize(40, 120);
    eventually("the new size is known inside", || {
        sitter.type_in("stty size\n");
        sitter.hears("ready> ").contains("40 120")
    });
    // Job control: what is interrupted is the command in the foreground, and not the shell.
    sitter.asks(RUNS, "2 runs\r\n");
    sitter.type_in("\x03");
    sitter.hears("ready> ");
    sitter.asks("echo code $?", "code 130\r\n");
    assert!(!sitter.said().contains("job control"), "{}", sitter.said());
    agent.kill();
    sitter.asks("echo $((40 + 2)) alive", "42 alive\r\n");
    agent.restart();
    sitter.type_in("exit 7\n");
    sitter.ends(7);

    // Without a terminal there is nothing to hand on.
    let refused = run(&agent, "refused", &[], &["true"]).stdin(Stdio::null()).output().expect("bellows run");
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && text.contains("-t needs a terminal"), "{text}");
}

/// On the host's root, and beside a workload; and who sits there goes away.
#[test]
fn a_terminal_hangs_up_with_who_sits_at_it() {
    let mut agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let mut sitter = Sitter::sit(&run(&agent, "gone", &[], &["sh", "-c", "tty; exec sleep 300"]));
    sitter.hears("/dev/pts/");
    sitter.child.kill().expect("kill");
    let ended = journal.wait("default/gone", is_ended);
    assert!(matches!(&ended.what, What::Ended { code: 129, .. }), "{ended:?}");
    drop(sitter);

    let box_ = agent.run_with("box", "32M..128M", &TENANT, &["sleep", "300"]);
    journal.wait("default/box", is_launched);
    let exec = |agent: &Agent, command: &[&str]| {
        let mut exec = agent.command("exec");
        exec.args(["box", "-t", "--"]).args(command);
        Sitter::sit(&exec)
    };
    let sitter = exec(&agent, &["sh"]);
    sitter.asks("tty; stty size", "/dev/pts/0\r\n33 99\r\n");
    sitter.asks(RUNS, "2 runs\r\n");
    sitter.type_in("\x03");
    sitter.asks("echo code $?", "code 130\r\n");
    sitter.type_in("exit 5\n");
    sitter.ends(5);
    let refused = exec(&agent, &["/nothing"]);
    refused.hears("cannot execute /nothing");
    refused.ends(1);

    // Who is killed takes the command along, but nothing of the workload.
    let procs = agent.tree.workload("box").join("cgroup.procs");
    let alone = || read(&procs).lines().count() == 2;
    eventually("the workload is alone", alone);
    let mut sitter = exec(&agent, &["sleep", "300"]);
    eventually("it runs", || !alone());
    sitter.child.kill().expect("kill");
    eventually("it has ended", alone);
    drop(sitter);

    // The agent is not in the way: its end leaves the command its terminal.
    let sitter = exec(&agent, &["sh"]);
    sitter.asks("echo $((1 + 1)) first", "2 first\r\n");
    agent.kill();
    sitter.hears("lost the agent");
    sitter.asks("echo $((40 + 2)) alive", "42 alive\r\n");
    sitter.type_in("exit 6\n");
    sitter.ends(6);
    agent.restart();
    told(&agent, "stop", &["box", "--grace", "0s"], 0);
    assert_eq!(box_.finish().code, 137);
}

#[test]
fn who_is_detached_is_attached_to_again_and_again() {
    let mut agent = Agent::start(&[]);
    let script = "while read word; do echo heard $word $(stty size); done";
    let detached =
        ["--name", "kept", "--memory", "16M..64M", "--detach", "-t", "--isolation", "tenant", "--"];
    told(&agent, "run", &[&detached[..], &["bash", "-c", script]].concat(), 0);
    let attach = |agent: &Agent| {
        let mut attach = agent.command("attach");
        attach.arg("kept");
        Sitter::sit(&attach)
    };
    let first = attach(&agent);
    first.asks("one", "heard one 33 99\r\n");
    // Two see the same, and both can type; the agent has no part in it.
    let mut second = attach(&agent);
    second.asks("two", "heard two 33 99\r\n");
    first.hears("heard two 33 99\r\n");
    agent.kill();
    second.asks("three", "heard three 33 99\r\n");
    first.hears("heard three 33 99\r\n");
    first.type_in("\x10\x11");
    first.hears("left; it goes on");
    first.ends(0);
    // Killed, it is no more than gone.
    second.child.kill().expect("kill");
    second.child.wait().expect("its end");
    let third = attach(&agent);
    third.asks("four", "heard four 33 99\r\n");
    agent.restart();
    let logged = told(&agent, "logs", &["kept"], 0);
    for word in ["one", "two", "three", "four"] {
        assert!(logged.contains(&format!("heard {word} 33 99\r\n")), "{logged:?}");
    }
    third.type_in("\x04");
    third.hears("nobody is at its terminal any more");
    third.ends(0);
    eventually("it is over", || told(&agent, "ps", &["--json"], 0).contains("\"state\":\"exited\""));
    let gone = attach(&agent);
    gone.hears("there is no terminal of default/kept");
    gone.ends(4);
    told(&agent, "rm", &["kept"], 0);
}
