//! The redis server: how it is started, and a client that speaks just enough of its protocol (RESP 2).

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::child::{Job, tail, wait_for};

/// How long the server may take to answer for the first time; a translated guest reads it over a slow file system.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long one answer may take. Longer than the 2 s for which the kernel throttles a task at most.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// Time between two questions of the probe.
const PROBE_PERIOD: Duration = Duration::from_millis(300);

/// What the server is started with: in memory only, on loopback.
pub fn arguments(port: u16) -> Vec<String> {
    let port = port.to_string();
    let words =
        ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning"];
    words.map(str::to_owned).to_vec()
}

/// A port that nobody listens on now.
pub fn find_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on loopback")?;
    Ok(listener.local_addr()?.port())
}

/// Waits until the server that `job` runs answers.
pub fn await_server(job: &mut Job, port: u16, log: &Path) -> Result<Client> {
    let is_up = || {
        if let Some(status) = job.ended()? {
            bail!("redis-server ended at once, {status}:\n  {}", tail(log));
        }
        Ok(Client::connect(port).and_then(|mut client| client.ask(&["PING"]).map(|_| client)).ok())
    };
    wait_for(START_PATIENCE, is_up).context("redis-server does not answer")
}

/// Asks the server now and then what it has done, on a thread of its own: one that is throttled answers late. Ends when
/// dropped. A server that dies takes its counts with it; what it said last stands.
#[derive(Debug)]
pub struct Probe(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    sets: AtomicU64,
    keys: AtomicU64,
    ended: AtomicBool,
}

impl Probe {
    /// Of the server at `port`.
    #[must_use]
    pub fn start(port: u16) -> Self {
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        thread::spawn(move || {
            let mut client = None;
            while !shared.ended.load(Ordering::Relaxed) {
                client = client.or_else(|| Client::connect(port).ok());
                if let Some(live) = &mut client
                    && shared.take(live).is_err()
                {
                    client = None;
                }
                thread::sleep(PROBE_PERIOD);
            }
        });
        Self(counts)
    }

    /// The most SETs that it has been seen to have carried out.
    #[must_use]
    pub fn sets(&self) -> u64 {
        self.0.sets.load(Ordering::Relaxed)
    }

    /// The most keys that it has been seen to have.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.0.keys.load(Ordering::Relaxed)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

impl Counts {
    fn take(&self, client: &mut Client) -> Result<()> {
        // In this order no key is seen whose SET is not.
        let keys = client.keys()?;
        self.sets.fetch_max(client.sets()?, Ordering::Relaxed);
        self.keys.fetch_max(keys, Ordering::Relaxed);
        Ok(())
    }
}

/// A connection to the server.
#[derive(Debug)]
pub struct Client(BufReader<TcpStream>);

/// What the server answers.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Text(String),
    Number(i64),
    List(Vec<Reply>),
    Nothing,
}

impl Client {
    /// Connects.
    pub fn connect(port: u16) -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, ANSWER_PATIENCE)?;
        stream.set_read_timeout(Some(ANSWER_PATIENCE))?;
        stream.set_write_timeout(Some(ANSWER_PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// How many keys it serves, by its own count.
    fn keys(&mut self) -> Result<u64> {
        match self.ask(&["DBSIZE"])? {
            Reply::Number(n) => Ok(n.unsigned_abs()),
            other => bail!("DBSIZE answered {other:?}"),
        }
    }

    /// How many SETs it has carried out.
    fn sets(&mut self) -> Result<u64> {
        match self.ask(&["INFO", "commandstats"])? {
            Reply::Text(text) => Ok(count_sets(&text)),
            other => bail!("INFO answered {other:?}"),
        }
    }

    /// How many distinct keys it really serves with a whole value: walks through all of them.
    pub fn count_served(&mut self, value_bytes: usize) -> Result<u64> {
        let mut served = HashSet::new();
        let mut cursor = "0".to_owned();
        loop {
            let (next, keys) = page(self.ask(&["SCAN", &cursor, "COUNT", "1000"])?)?;
            let mut pipeline = Vec::new();
            for key in &keys {
                encode(&["STRLEN", key], &mut pipeline);
            }
            self.0.get_mut().write_all(&pipeline)?;
            for key in keys {
                if read_reply(&mut self.0)? == Reply::Number(i64::try_from(value_bytes)?) {
                    served.insert(key);
                }
            }
            if next == "0" {
                return Ok(served.len() as u64);
            }
            cursor = next;
        }
    }

    /// Sets a key.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        self.ask(&["SET", key, value]).map(drop)
    }

    /// Gets a key; returns the length of its value, 0 if there is none.
    pub fn get(&mut self, key: &str) -> Result<usize> {
        match self.ask(&["GET", key])? {
            Reply::Text(value) => Ok(value.len()),
            Reply::Number(_) | Reply::List(_) | Reply::Nothing => Ok(0),
        }
    }

    fn ask(&mut self, words: &[&str]) -> Result<Reply> {
        let mut request = Vec::new();
        encode(words, &mut request);
        self.0.get_mut().write_all(&request)?;
        read_reply(&mut self.0)
    }
}

fn encode(words: &[&str], request: &mut Vec<u8>) {
    request.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        request.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}

fn read_reply(from: &mut impl BufRead) -> Result<Reply> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let (kind, rest) = line.trim_end().split_at_checked(1).context("redis closed the connection")?;
    match kind {
        "+" => Ok(Reply::Text(rest.to_owned())),
        "-" => bail!("redis refused: {rest}"),
        ":" => Ok(Reply::Number(rest.parse()?)),
        "$" => {
            let Ok(length) = usize::try_from(rest.parse::<i64>()?) else { return Ok(Reply::Nothing) };
            let mut bytes = vec![0; length + 2];
            from.read_exact(&mut bytes)?;
            bytes.truncate(length);
            Ok(Reply::Text(String::from_utf8_lossy(&bytes).into_owned()))
        }
        "*" => (0..rest.parse::<i64>()?).map(|_| read_reply(from)).collect::<Result<_>>().map(Reply::List),
        _ => bail!("redis answered `{}`", line.trim_end()),
    }
}

/// The answer of SCAN: the next cursor and some keys.
fn page(reply: Reply) -> Result<(String, Vec<String>)> {
    let text = |reply| match reply {
        Reply::Text(text) => Some(text),
        Reply::Number(_) | Reply::List(_) | Reply::Nothing => None,
    };
    let Reply::List(parts) = reply else { bail!("SCAN answered no list") };
    let mut parts = parts.into_iter();
    let cursor = parts.next().and_then(text).context("SCAN answered no cursor")?;
    let Some(Reply::List(keys)) = parts.next() else { bail!("SCAN answered no keys") };
    Ok((cursor, keys.into_iter().filter_map(text).collect()))
}

/// From lines like `cmdstat_set:calls=12,usec=...`; there is none before the first SET.
fn count_sets(commandstats: &str) -> u64 {
    let line = commandstats.lines().find_map(|line| line.strip_prefix("cmdstat_set:calls="));
    line.and_then(|rest| rest.split(',').next()).and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read() {
        let read = |text: &str| read_reply(&mut text.as_bytes());
        assert_eq!(read("+PONG\r\n").unwrap(), Reply::Text("PONG".into()));
        assert_eq!(read(":42\r\n").unwrap(), Reply::Number(42));
        assert_eq!(read("$4\r\na\r\nb\r\n").unwrap(), Reply::Text("a\r\nb".into()));
        assert_eq!(read("$-1\r\n").unwrap(), Reply::Nothing);
        assert!(read("-ERR no\r\n").is_err());
        assert!(read("").is_err());
    }

    #[test]
    fn a_page_of_keys_is_taken_apart() {
        let reply = read_reply(&mut "*2\r\n$1\r\n7\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n".as_bytes()).unwrap();
        assert_eq!(page(reply).unwrap(), ("7".to_owned(), vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn sets_are_counted() {
        let text = "# Commandstats\r\ncmdstat_ping:calls=1,usec=1\r\ncmdstat_set:calls=31,usec=9,x=0\r\n";
        assert_eq!(count_sets(text), 31);
        assert_eq!(count_sets("# Commandstats\r\n"), 0);
    }
}
