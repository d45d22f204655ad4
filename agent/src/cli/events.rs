//! `bellows events`: the journal, and with `-f` what comes.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use http_body_util::BodyExt;

use super::Connection;
use super::client::Client;
use super::text::sentence;
use crate::journal::Record;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Go on with what comes.
    #[arg(short, long)]
    follow: bool,
    /// Begin after the record with this id.
    #[arg(long, value_name = "ID", default_value_t = 0)]
    since: u64,
    /// Print one JSON object per line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.connection.runtime_dir);
    let path = format!("/api/v1/events?since={}&follow={}", arguments.since, arguments.follow);
    if !arguments.follow {
        let records: Vec<Record> = client.get(&path).await?;
        for record in &records {
            print(record, arguments.json)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut body = client.stream(&path).await?;
    let mut lines = Lines::default();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        for line in lines.push(&data) {
            // Of an event only its data: names and ids repeat what is in it.
            if let Some(json) = line.strip_prefix("data: ")
                && let Ok(record) = serde_json::from_str(json)
            {
                print(&record, arguments.json)?;
            }
        }
    }
    anyhow::bail!("the agent ended")
}

fn print(record: &Record, json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(record)?)?;
    } else {
        writeln!(out, "{}", sentence(record))?;
    }
    Ok(())
}

/// Puts lines together from pieces that end anywhere.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn push(&mut self, piece: &[u8]) -> Vec<String> {
        self.0.extend_from_slice(piece);
        let Some(end) = self.0.iter().rposition(|&b| b == b'\n') else { return Vec::new() };
        let whole: Vec<u8> = self.0.drain(..=end).collect();
        String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together() {
        let mut lines = Lines::default();
        assert!(lines.push(b"data: {\"a").is_empty());
        assert_eq!(lines.push(b"\":1}\n\ndata: x"), ["data: {\"a\":1}", ""]);
        assert_eq!(lines.push(b"y\n"), ["data: xy"]);
    }
}
