//! `bellows top`: the workloads, as they change.
//!
//! ```text
//! poll    GET node and workloads, once an interval  ->  state::take
//! keys    of the terminal                           ->  state::press  ->  a wish: explain, freeze, thaw, kill, quit
//! draw    after either of them, what has changed of the screen
//! ```
//! Nothing is drawn while nothing happens, and only what differs is sent, so that it is of use over a slow line. Where standard output
//! is not a terminal, or by `--plain`, it is a table now and then.

mod columns;
mod state;
#[cfg(test)]
mod tests;
mod view;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use self::state::{Act, Id, Snapshot, Top, Wish};
use self::view::Palette;
use super::Connection;
use crate::api::words;
use crate::client::{Client, ClientError};

/// The shortest interval, milliseconds: the agent publishes ten times a second.
const LEAST_MS: u64 = 100;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Show those that have all these words in tenant/name, class, state or mode.
    #[arg(value_name = "WORD")]
    filter: Vec<String>,
    /// Time between two answers, milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(LEAST_MS..))]
    interval_ms: u64,
    /// Print a table now and then, as where standard output is not a terminal.
    #[arg(long)]
    plain: bool,
    /// Leave after so many tables.
    #[arg(long, value_name = "N", requires = "plain")]
    count: Option<u64>,
    #[command(flatten)]
    connection: Connection,
}

/// What happens to it.
#[derive(Debug)]
enum Happening {
    Terminal(Event),
    Answer(Result<Snapshot, ClientError>),
    Explained(Id, String),
    Done(String),
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.connection.runtime_dir);
    let interval = Duration::from_millis(arguments.interval_ms);
    let top = Top::new(arguments.filter.join(" "));
    if arguments.plain || !std::io::stdout().is_terminal() {
        return plain(&client, top, interval, arguments.count).await;
    }
    // Before the screen is taken: an agent that is not there is told in the way of every verb.
    let first = ask(&client, Instant::now()).await?;
    let mut terminal = ratatui::try_init()?;
    let result = watch(&mut terminal, client, top, first, interval).await;
    ratatui::restore();
    result.map(|()| ExitCode::SUCCESS)
}

async fn ask(client: &Client, begun: Instant) -> Result<Snapshot, ClientError> {
    let (node, workloads) = (client.node().await?, client.workloads().await?);
    Ok(Snapshot { node, workloads, at: begun.elapsed().as_secs_f64() })
}

async fn plain(
    client: &Client,
    mut top: Top,
    interval: Duration,
    count: Option<u64>,
) -> anyhow::Result<ExitCode> {
    use std::io::Write;
    let begun = Instant::now();
    let mut left = count.unwrap_or(if std::io::stdout().is_terminal() { u64::MAX } else { 1 });
    // Use of the cpus is known from the second answer on.
    top.take(ask(client, begun).await?);
    while left > 0 {
        tokio::time::sleep(interval).await;
        top.take(ask(client, begun).await?);
        writeln!(std::io::stdout(), "{}", view::plain(&top))?;
        left -= 1;
    }
    Ok(ExitCode::SUCCESS)
}

/// Until it is left.
async fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    client: Client,
    mut top: Top,
    first: Snapshot,
    interval: Duration,
) -> anyhow::Result<()> {
    let palette = Palette { is_coloured: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) };
    let (tell, mut told) = mpsc::channel(64);
    top.take(first);
    listen(tell.clone());
    tokio::spawn(poll(client.clone(), interval, tell.clone()));
    loop {
        terminal.draw(|frame| view::draw(frame, &mut top, palette))?;
        let Some(happening) = told.recv().await else { return Ok(()) };
        let mut next = Some(happening);
        // All that has come is taken in before it is drawn.
        while let Some(happening) = next.take().or_else(|| told.try_recv().ok()) {
            match happening {
                Happening::Terminal(Event::Key(key)) if key.kind == KeyEventKind::Press => match top
                    .press(key)
                {
                    Some(Wish::Quit) => return Ok(()),
                    Some(Wish::Explain(of)) => drop(tokio::spawn(explain(client.clone(), of, tell.clone()))),
                    Some(Wish::Do(act, of)) => {
                        drop(tokio::spawn(carry_out(client.clone(), act, of, tell.clone())));
                    }
                    None => {}
                },
                Happening::Terminal(_) => {}
                Happening::Answer(Ok(snapshot)) => top.take(snapshot),
                Happening::Answer(Err(error)) => top.error = Some(error.to_string()),
                Happening::Explained(of, text) => top.explain(&of, &text),
                Happening::Done(text) => top.message = Some(text),
            }
        }
    }
}

/// The keys, and changes of the terminal's size. The thread ends with the process.
fn listen(tell: mpsc::Sender<Happening>) {
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if tell.blocking_send(Happening::Terminal(event)).is_err() {
                return;
            }
        }
    });
}

async fn poll(client: Client, interval: Duration, tell: mpsc::Sender<Happening>) {
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        if tell.send(Happening::Answer(ask(&client, begun).await)).await.is_err() {
            return;
        }
    }
}

async fn explain(client: Client, of: Id, tell: mpsc::Sender<Happening>) {
    let text = match client.explain_workload(&of.0, &of.1).await {
        Ok(explained) => words::workload::text(&explained),
        Err(error) => error.to_string(),
    };
    let _ = tell.send(Happening::Explained(of, text)).await;
}

async fn carry_out(client: Client, act: Act, of: Id, tell: mpsc::Sender<Happening>) {
    let (tenant, name) = &of;
    let done = match act {
        Act::Freeze | Act::Thaw => client.order(tenant, name, act.as_str(), &()).await.map(drop),
        Act::Kill => client.signal(tenant, name, libc::SIGKILL).await,
    };
    let text = match done {
        Ok(()) => format!("{tenant}/{name}: {} done", act.as_str()),
        Err(error) => format!("{tenant}/{name}: {} failed: {error}", act.as_str()),
    };
    let _ = tell.send(Happening::Done(text)).await;
}
