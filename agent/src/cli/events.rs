//! `bellows events`: the journal, and with `-f` what comes.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use http_body_util::BodyExt;

use super::Connection;
use crate::api::words::text::sentence;
use crate::client::{Client, Wanted};
use crate::journal::Record;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Go on with what comes.
    #[arg(short, long)]
    follow: bool,
    /// Begin after the record with this id, so long ago (5m), at a time of day (14:03, UTC), or at an instant (RFC 3339).
    #[arg(long, value_name = "ID|DURATION|TIME")]
    since: Option<String>,
    /// Only of this workload.
    #[arg(long, value_name = "TENANT/NAME")]
    workload: Option<String>,
    /// Only for this reason, as the metrics spell it: ceiling_reached, budget_deferred, ...
    #[arg(long)]
    reason: Option<String>,
    /// So many of what is kept, the newest.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Print one JSON object per line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.connection.runtime_dir);
    let wanted = Wanted {
        since: arguments.since.as_deref(),
        workload: arguments.workload.as_deref(),
        reason: arguments.reason.as_deref(),
        limit: arguments.limit,
    };
    if !arguments.follow {
        let records = client.events(wanted).await?;
        for record in &records {
            print(record, arguments.json)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut body = client.follow(wanted).await?;
    let (mut lines, mut last) = (Lines::default(), None);
    // An agent that is killed breaks off, one that ends says so: both have ended.
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        for line in lines.push(&data) {
            // Of an event only its data: names and ids repeat what is in it.
            if let Some(json) = line.strip_prefix("data: ")
                && let Ok(record) = serde_json::from_str::<Record>(json)
            {
                print(&record, arguments.json)?;
                last = Some(record.id);
            }
        }
    }
    let goes_on = last.map(|id| format!("; when another one is there, --since {id} goes on from here"));
    anyhow::bail!("the agent ended{}", goes_on.unwrap_or_default())
}

fn print(record: &Record, json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(record)?)?;
    } else {
        writeln!(out, "{:>5}  {}", record.id, sentence(record))?;
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
