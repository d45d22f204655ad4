//! `bellows kill`: a signal for a workload.

use std::process::ExitCode;
use std::str::FromStr;

use clap::Args;
use nix::sys::signal::Signal;

use super::order::Target;
use crate::workload::life::SIGNALS;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// The signal, by name or number. TERM goes to its command; KILL to every process in its cgroup.
    #[arg(short, long, default_value = "TERM")]
    signal: SignalNumber,
}

/// A signal, by name or number.
#[derive(Debug, Clone, Copy)]
pub(super) struct SignalNumber(pub(super) i32);

impl FromStr for SignalNumber {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let upper = text.to_uppercase();
        let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
        let named = Signal::from_str(&full).ok().map(|s| s as i32);
        let numbered = text.parse().ok().filter(|n| SIGNALS.contains(n));
        named.or(numbered).map(Self).ok_or_else(|| format!("{text:?} is not a signal: TERM, KILL, HUP, 15"))
    }
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { target, signal: SignalNumber(signal) } = arguments;
    target.client().signal(target.tenant.as_str(), target.name.as_str(), signal).await?;
    if target.json {
        let Target { tenant, name, .. } = target;
        println!("{}", serde_json::json!({ "tenant": tenant, "name": name, "signal": signal }));
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        for (text, number) in [("TERM", 15), ("sigkill", 9), ("1", 1), ("64", 64)] {
            assert_eq!(text.parse::<SignalNumber>().unwrap().0, number);
        }
        for bad in ["", "0", "65", "NOPE"] {
            assert!(bad.parse::<SignalNumber>().is_err(), "{bad}");
        }
    }
}
