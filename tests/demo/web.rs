//! The web server: nginx over a directory of files, and the visitors that ask it for them.
//!
//! Requests are due at fixed times, and latency counts from when a request was due, not from when it could be sent: a server
//! that stalls is not spared the requests that would have come meanwhile.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bellows_policies::units::Bytes;

use crate::child::{Job, TICK, tail, wait_for};
use crate::files;
use crate::scenario::LENGTH;

/// Files of the site: with nginx itself they just fit the floor.
const FILES: u64 = 128;
/// Size of each.
const FILE: Bytes = Bytes(256 << 10);
/// Visitors, each with a connection of its own.
const VISITORS: u64 = 2;
/// Time between two requests of one visitor, ms.
const EVERY_MS: u64 = 160;
/// How long the server may take to answer for the first time.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long one answer may take: late is not lost, and the latency tells.
const PATIENCE: Duration = Duration::from_secs(30);

/// The files; removed when dropped.
#[derive(Debug)]
pub(crate) struct Site(PathBuf);

/// The visitors, at work.
#[derive(Debug)]
pub(crate) struct Visitors {
    served: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Duration>>>,
}

/// What became of them.
#[derive(Debug, Clone)]
pub(crate) struct Visited {
    /// How long each served request took from when it was due, in order.
    latencies: Vec<Duration>,
}

impl Site {
    /// Writes files and configuration.
    pub(crate) fn create(scratch: &Path) -> Result<Self> {
        let site = Self(scratch.join("bellows-demo.site"));
        fs::create_dir_all(&site.0).with_context(|| format!("cannot make {}", site.0.display()))?;
        let content = vec![b'w'; usize::try_from(FILE.0)?];
        for number in 0..FILES {
            files::write(&site.file(number), &content)?;
        }
        Ok(site)
    }

    /// Drops it from the page cache: whoever reads a page first is charged for it.
    pub(crate) fn forget(&self) -> Result<()> {
        (0..FILES).try_for_each(|number| files::forget(&self.file(number)))
    }

    /// Configures a server for `port`, and says how it is started. One process that nothing else starts, and no user to
    /// become: the cgroup is what is shown here.
    pub(crate) fn arguments(&self, port: u16) -> Result<Vec<String>> {
        let root = self.0.display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {root}/tmp;"))
            .join(" ");
        let text = format!(
            "daemon off; master_process off; pid {root}/pid; error_log stderr;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; sendfile on; keepalive_requests 1000000; {temporary}\n\
             server {{ listen 127.0.0.1:{port}; root {root}; }} }}\n"
        );
        let path = self.0.join("nginx.conf");
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(vec!["-p".to_owned(), root.to_string(), "-c".to_owned(), path.display().to_string()])
    }

    fn file(&self, number: u64) -> PathBuf {
        self.0.join(format!("{number}.bin"))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // The scratch directory is thrown away in any case.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits until the server that `job` runs answers.
pub(crate) fn await_server(job: &mut Job, port: u16, log: &Path) -> Result<()> {
    let is_up = || {
        if let Some(status) = job.ended()? {
            bail!("nginx ended at once, {status}:\n  {}", tail(log));
        }
        Ok(Visitor::connect(port).ok().map(drop))
    };
    wait_for(START_PATIENCE, is_up).context("nginx does not answer")
}

impl Visitors {
    /// Requests that are offered.
    pub(crate) fn offered() -> u64 {
        VISITORS * requests_each()
    }

    /// Sends them to the server at `port`.
    pub(crate) fn send(port: u16) -> Self {
        let (served, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let start = Instant::now();
        let visit = |number| {
            let (served, is_over) = (Arc::clone(&served), Arc::clone(&is_over));
            // Not all at the same time.
            let first = start + Duration::from_millis(EVERY_MS * number / VISITORS);
            thread::spawn(move || visit(port, number, first, &served, &is_over))
        };
        let threads = (0..VISITORS).map(visit).collect();
        Self { served, is_over, threads }
    }

    /// How many requests have been served.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Whether none is left.
    pub(crate) fn is_over(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Calls them home; what was not served by now never will be.
    pub(crate) fn sum_up(self) -> Result<Visited> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut latencies = Vec::new();
        for thread in self.threads {
            latencies.extend(thread.join().map_err(|_| anyhow::anyhow!("a visitor panicked"))?);
        }
        latencies.sort_unstable();
        Ok(Visited { latencies })
    }
}

impl Visited {
    /// Requests that were served.
    pub(crate) fn served(&self) -> u64 {
        self.latencies.len() as u64
    }

    /// Requests that were not.
    pub(crate) fn lost(&self) -> u64 {
        Visitors::offered().saturating_sub(self.served())
    }

    /// The latency that `percent` of the served requests did not exceed (nearest rank), ms.
    pub(crate) fn latency_ms(&self, percent: usize) -> Option<f64> {
        let rank = (self.latencies.len() * percent).div_ceil(100);
        self.latencies.get(rank.checked_sub(1)?).map(|latency| latency.as_secs_f64() * 1000.0)
    }
}

fn requests_each() -> u64 {
    LENGTH * 1000 / EVERY_MS
}

fn visit(port: u16, number: u64, first: Instant, served: &AtomicU64, is_over: &AtomicBool) -> Vec<Duration> {
    let mut visitor = None;
    let mut latencies = Vec::new();
    for request in 0..requests_each() {
        let due = first + Duration::from_millis(EVERY_MS * request);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        // Any order will do that comes to every file and is not the order of the disk.
        let file = (request * VISITORS + number) * 53 % FILES;
        visitor = visitor.or_else(|| Visitor::connect(port).ok());
        match visitor.as_mut().map(|visitor| visitor.get(file)) {
            Some(Ok(())) => {
                latencies.push(due.elapsed());
                served.fetch_add(1, Ordering::Relaxed);
            }
            Some(Err(_)) => visitor = None,
            None => thread::sleep(TICK),
        }
    }
    latencies
}

/// A connection that is kept.
#[derive(Debug)]
struct Visitor {
    stream: BufReader<TcpStream>,
    body: Vec<u8>,
}

impl Visitor {
    fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), body: Vec::new() })
    }

    fn get(&mut self, file: u64) -> Result<()> {
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

    #[test]
    fn percentiles_by_nearest_rank() {
        let visited = |n: u64| Visited { latencies: (1..=n).map(Duration::from_millis).collect() };
        assert_eq!(visited(100).latency_ms(99), Some(99.0));
        assert_eq!(visited(3).latency_ms(50), Some(2.0));
        assert_eq!(visited(0).latency_ms(99), None);
        assert_eq!(visited(7).lost(), Visitors::offered() - 7);
    }
}
