//! Requests to an agent over its sockets, without a client process for each: a benchmark has thousands, and whoever wants to meet a
//! moment of a request cannot wait for a process to start.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bellows::api::{API_SOCKET, STDIO_SOCKET};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// How long a read or a write may take: a launch under full load takes a while.
const DEADLINE: Duration = Duration::from_mins(1);

/// What came of a request.
#[derive(Debug)]
pub struct Answer {
    /// The status, for instance 200.
    pub status: u16,
    /// Its media type, without parameters; empty when there is no body.
    pub media: String,
    /// The body.
    pub body: Vec<u8>,
}

/// One request with a JSON body, on a connection of its own. An answer that was cut off is an error.
pub fn ask(runtime_dir: &Path, method: &str, path: &str, body: &str) -> io::Result<Answer> {
    let mut stream = connect(&runtime_dir.join(API_SOCKET))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: bellows\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&answer).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Hands over standard input, output and error; the token for them, which is good for as long as the connection.
pub fn hand_over(runtime_dir: &Path, stdio: [BorrowedFd<'_>; 3]) -> io::Result<(UnixStream, String)> {
    let mut stream = connect(&runtime_dir.join(STDIO_SOCKET))?;
    let numbers = stdio.map(|fd| fd.as_raw_fd());
    let rights = [ControlMessage::ScmRights(&numbers)];
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(b"3")], &rights, MsgFlags::empty(), None)?;
    let mut token = [0; 33];
    stream.read_exact(&mut token)?;
    Ok((stream, String::from_utf8_lossy(&token).trim_end().to_owned()))
}

fn connect(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    Ok(stream)
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?.to_lowercase();
    let body = &answer[end + 4..];
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let media =
        header("content-type").and_then(|media| media.split(';').next()).unwrap_or_default().to_owned();
    if header("transfer-encoding") == Some("chunked") {
        return Some(Answer { status, media, body: joined(body)? });
    }
    let length = header("content-length").and_then(|length| length.parse().ok());
    let is_whole = length.is_none_or(|length: usize| body.len() >= length);
    is_whole.then(|| Answer { status, media, body: body.to_vec() })
}

/// An answer with its chunks in one.
#[must_use]
pub fn unchunked(answer: String) -> String {
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains("transfer-encoding: chunked") => {
            let body = joined(body.as_bytes()).unwrap_or_default();
            format!("{head}\r\n\r\n{}", String::from_utf8_lossy(&body))
        }
        _ => answer,
    }
}

/// The chunks of a body in one; none if the last one is missing.
fn joined(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).ok()?, 16).ok()?;
        let chunk = body.get(end + 2..end + 2 + size)?;
        if size == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(chunk);
        body = body.get(end + 4 + size..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined() {
        assert_eq!(
            joined(b"3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n").unwrap(),
            b"abc0123456789abcdef"
        );
        assert_eq!(joined(b"3\r\nabc\r\n10\r\n0123"), None);
    }

    #[test]
    fn what_was_cut_off_is_no_answer() {
        let whole = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}";
        let answer = parse(whole).expect("an answer");
        assert_eq!((answer.status, &answer.body[..]), (201, &b"{}"[..]));
        assert!((0..whole.len()).all(|length| parse(&whole[..length]).is_none()));
    }
}
