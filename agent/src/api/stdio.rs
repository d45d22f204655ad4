//! The descriptor socket: a client sends one byte with three descriptors and gets a token; a launch names the token. A fourth one is a
//! line between the client and who waits for a command beside a workload: see `Beside`.
//!
//! A token is good for one launch, and only while its connection is open: a client that dies leaves nothing behind.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSliceMut, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};

use super::gate::Gate;
use super::types::Peer;
use crate::kernel::spawn::own_received;

/// Tokens that may be open at a time.
const MOST: usize = 1024;

/// What whoever may start nothing reads in place of a token, and as long as one: an agent that dies says nothing.
pub const REFUSAL: &[u8; 33] = b"--------------------------------\n";

/// What is read in place of a token where there is no room for one: too much of one caller, or of all, is open.
pub const BUSY: &[u8; 33] = b"................................\n";

/// Why descriptors did not come.
const FULL: &str = "a launch was not taken: as many files are open as may be; raise LimitNOFILE= of the agent's unit, or `ulimit -Hn`";

/// How long a client may take to send its descriptors.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(5);

/// What a client has passed on.
#[derive(Debug)]
pub(super) struct Passed {
    /// Standard input, output and error.
    pub(super) stdio: [OwnedFd; 3],
    /// A line to the client.
    pub(super) line: Option<OwnedFd>,
}

/// Descriptors that wait for their launch.
#[derive(Debug, Default)]
pub(super) struct Tokens(Mutex<HashMap<String, Passed>>);

impl Tokens {
    /// Takes the descriptors of a token, which is then spent.
    pub(super) fn claim(&self, token: &str) -> Option<Passed> {
        self.lock().remove(token)
    }

    fn open(&self, passed: Passed) -> io::Result<String> {
        let mut random = [0_u8; 16];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let token = format!("{:032x}", u128::from_ne_bytes(random));
        let mut tokens = self.lock();
        if tokens.len() >= MOST {
            return Err(io::Error::other("too many launches wait for their descriptors"));
        }
        tokens.insert(token.clone(), passed);
        Ok(token)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Passed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves the socket until the runtime ends.
pub(super) async fn serve(listener: UnixListener, tokens: Arc<Tokens>, gate: Arc<Gate>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: let others close some.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        // Who can start nothing has nothing to pass on; what is passed is on the account of who connects.
        let Peer(by) = Peer::of(&stream);
        if !gate.rights(&by).acts() {
            // There is room: nothing has been written there before.
            tokio::spawn(async move { stream.write_all(REFUSAL).await });
            continue;
        }
        let Ok(ticket) = gate.connect(&by) else {
            tokio::spawn(async move { stream.write_all(BUSY).await });
            continue;
        };
        let tokens = Arc::clone(&tokens);
        tokio::spawn(async move {
            let _ticket = ticket;
            if let Err(error) = hold(stream, &tokens).await {
                crate::kernel::tell(&format!("stdio socket: {error}"));
            }
        });
    }
}

async fn hold(mut stream: UnixStream, tokens: &Tokens) -> io::Result<()> {
    let passed =
        tokio::time::timeout(DEADLINE, stream.async_io(Interest::READABLE, || receive(&stream))).await?;
    let token = match passed.and_then(|passed| tokens.open(passed)) {
        Ok(token) => token,
        Err(error) => {
            if error.kind() != io::ErrorKind::InvalidData {
                stream.write_all(BUSY).await?;
            }
            return Err(error);
        }
    };
    let answered = stream.write_all(format!("{token}\n").as_bytes()).await;
    // Until the client closes.
    let mut rest = [0_u8; 16];
    while answered.is_ok() && stream.read(&mut rest).await.is_ok_and(|n| n > 0) {}
    drop(tokens.claim(&token));
    Ok(())
}

fn receive(stream: &UnixStream) -> io::Result<Passed> {
    let mut byte = [0_u8; 1];
    let mut parts = [IoSliceMut::new(&mut byte)];
    // Room for as many as one message can carry (SCM_MAX_FD): what is cut off would be nobody's, and stay open for ever.
    let mut space = cmsg_space!([RawFd; 253]);
    let message =
        recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    // The kernel cuts off what does not fit into the table of open files, and nothing else can be missing.
    if message.flags.contains(MsgFlags::MSG_CTRUNC) {
        drop(own_received(&numbers_of(&space)));
        return Err(io::Error::other(FULL));
    }
    let mut received = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            received.extend(own_received(&numbers));
        }
    }
    let count = received.len();
    let line = if count == 4 { received.pop() } else { None };
    let stdio = received.try_into().map_err(|_: Vec<_>| {
        let text = format!("3 or 4 descriptors were expected, {count} came");
        io::Error::new(io::ErrorKind::InvalidData, text)
    })?;
    Ok(Passed { stdio, line })
}

/// The descriptors of a message that was cut off, which `nix` does not tell and which are ours to close: one header, and their
/// numbers. Without any there is none: nothing was written.
fn numbers_of(control: &[u8]) -> Vec<RawFd> {
    let Some((length, _)) = control.split_first_chunk() else { return Vec::new() };
    let numbers = control.get(size_of::<libc::cmsghdr>()..usize::from_ne_bytes(*length)).unwrap_or_default();
    numbers.as_chunks().0.iter().map(|&number| RawFd::from_ne_bytes(number)).collect()
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::os::unix::net::UnixStream as StdStream;
    use std::process::Command;

    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    use nix::sys::socket::{ControlMessage, sendmsg};

    use super::*;

    /// Says to a process of this test that it is the only test there: it may fill the table of open files.
    const ALONE: &str = "BELLOWS_TEST_ALONE";

    #[test]
    fn what_is_cut_off_is_closed() {
        const NAME: &str = "api::stdio::tests::what_is_cut_off_is_closed";
        if std::env::var_os(ALONE).is_some() {
            return cut_off();
        }
        let own = std::env::current_exe().unwrap();
        let alone = Command::new(own).args(["--exact", NAME]).env(ALONE, "").output().unwrap();
        assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stdout));
    }

    fn cut_off() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut theirs: StdStream = theirs.into_std().unwrap();
        theirs.set_nonblocking(false).unwrap();
        let passed = File::open("/dev/null").unwrap();
        let numbers = [passed.as_raw_fd(); 3];
        let rights = [ControlMessage::ScmRights(&numbers)];
        sendmsg::<()>(theirs.as_raw_fd(), &[IoSlice::new(b"3")], &rights, MsgFlags::empty(), None).unwrap();

        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
        let mut full: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        full.truncate(full.len() - 2);
        let error = runtime.block_on(hold(ours, &Tokens::default())).unwrap_err();
        assert_eq!(error.to_string(), FULL);
        let mut said = [0; 33];
        theirs.read_exact(&mut said).unwrap();
        assert_eq!(said, *BUSY);
        // And that of the connection.
        let room: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        assert_eq!(room.len(), 3, "files that can be opened after it");
    }
}
