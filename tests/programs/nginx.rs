//! The web server: nginx over a directory of files of one size, and a visitor that asks it for them on a connection that it keeps.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bellows_policies::units::Bytes;

use super::child::{Job, tail, wait_for};
use super::files;

/// How long the server may take to answer for the first time.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long one answer may take: late is not lost, and the latency tells.
const PATIENCE: Duration = Duration::from_secs(30);

/// The files; removed when dropped.
#[derive(Debug)]
pub struct Site {
    directory: PathBuf,
    count: u64,
}

impl Site {
    /// Writes so many files of `each` bytes.
    pub fn create(directory: PathBuf, count: u64, each: Bytes) -> Result<Self> {
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let site = Self { directory, count };
        let content = vec![b'w'; usize::try_from(each.0)?];
        (0..count).try_for_each(|number| files::write(&site.file(number), &content))?;
        Ok(site)
    }

    /// Drops it from the page cache: whoever reads a page first is charged for it.
    pub fn forget(&self) -> Result<()> {
        (0..self.count).try_for_each(|number| files::forget(&self.file(number)))
    }

    /// Configures a server for `port`, and says how it is started. One process that nothing else starts, and no user to
    /// become: the cgroup is what is shown here.
    pub fn arguments(&self, port: u16) -> Result<Vec<String>> {
        let root = self.directory.display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {root}/tmp;"))
            .join(" ");
        let text = format!(
            "daemon off; master_process off; pid {root}/pid; error_log stderr;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; sendfile on; keepalive_requests 1000000; {temporary}\n\
             server {{ listen 127.0.0.1:{port}; root {root}; }} }}\n"
        );
        let path = self.directory.join("nginx.conf");
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(vec!["-p".to_owned(), root.to_string(), "-c".to_owned(), path.display().to_string()])
    }

    fn file(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number}.bin"))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // The scratch directory is thrown away in any case.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Waits until the server that `job` runs answers.
pub fn await_server(job: &mut Job, port: u16, log: &Path) -> Result<()> {
    let is_up = || {
        if let Some(status) = job.ended()? {
            bail!("nginx ended at once, {status}:\n  {}", tail(log));
        }
        Ok(Visitor::connect(port).ok().map(drop))
    };
    wait_for(START_PATIENCE, is_up).context("nginx does not answer")
}

/// A connection that is kept.
#[derive(Debug)]
pub struct Visitor {
    stream: BufReader<TcpStream>,
    body: Vec<u8>,
}

impl Visitor {
    /// Connects.
    pub fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), body: Vec::new() })
    }

    /// Asks for a file, and reads all of it.
    pub fn get(&mut self, file: u64) -> Result<()> {
        write!(self.stream.get_mut(), "GET /{file}.bin HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        self.body.resize(read_head(&mut self.stream)?, 0);
        Ok(self.stream.read_exact(&mut self.body)?)
    }
}

/// Reads up to the body, and returns how long that is.
fn read_head(from: &mut impl BufRead) -> Result<usize> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    if line.split(' ').nth(1) != Some("200") {
        bail!("nginx answered `{}`", line.trim_end());
    }
    let mut length = None;
    loop {
        line.clear();
        from.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().ok(),
            Some(_) => {}
            None => return length.context("nginx did not say how long its answer is"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let read = |text: &str| read_head(&mut text.as_bytes());
        assert_eq!(read("HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length: 12\r\n\r\nbody").unwrap(), 12);
        assert!(read("HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\n\r\n").is_err());
        assert!(read("HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(read("").is_err());
    }
}
