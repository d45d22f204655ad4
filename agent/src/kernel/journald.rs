//! The system's journal as standard output: the stream that systemd-journald takes lines from, as `sd_journal_stream_fd(3)` opens it.
//! Whoever holds the descriptor needs nobody between: each line becomes an entry of the process that wrote it.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Where journald takes streams, of anybody.
const SOCKET: &str = "/run/systemd/journal/stdout";
/// LOG_INFO of syslog(3).
const PRIORITY: u8 = 6;

/// Opens a stream whose entries are found by `journalctl -t IDENTIFIER`; a line break in that would say something else.
pub fn stream(identifier: &str) -> io::Result<OwnedFd> {
    open(Path::new(SOCKET), identifier)
}

fn open(socket: &Path, identifier: &str) -> io::Result<OwnedFd> {
    let mut stream = UnixStream::connect(socket)?;
    stream.shutdown(Shutdown::Read)?;
    // Who it is, its unit (that of its cgroup), its priority, that no line says another (`<0>` would go to all terminals of the host),
    // and to send it nowhere else.
    write!(stream, "{identifier}\n\n{PRIORITY}\n0\n0\n0\n0\n")?;
    Ok(stream.into())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_stream_begins_with_who_it_is() {
        let path = std::env::temp_dir().join(format!("bellows-journald-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let stream = open(&path, "acme/web").unwrap();
        std::fs::remove_file(&path).unwrap();
        File::from(stream).write_all(b"a line\n").unwrap();
        let mut said = String::new();
        listener.accept().unwrap().0.read_to_string(&mut said).unwrap();
        assert_eq!(said, "acme/web\n\n6\n0\n0\n0\n0\na line\n");
        assert_eq!(open(&path, "x").unwrap_err().kind(), io::ErrorKind::NotFound, "no journal is here");
    }
}
