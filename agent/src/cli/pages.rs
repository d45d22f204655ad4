//! `bellows completion` and `bellows man`: made of what the command line says of itself, so that they never say anything else.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;

#[derive(Debug, Args)]
#[command(after_help = "For example: bellows completion bash > /etc/bash_completion.d/bellows")]
pub(super) struct CompletionArguments {
    /// For which shell.
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Args)]
#[command(
    after_help = "For example: bellows man | man -l -   or   bellows man --out /usr/local/share/man/man1"
)]
pub(super) struct ManArguments {
    /// Write the pages of all verbs into this directory, `bellows.1` and `bellows-VERB.1`.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints what a shell completes words by.
pub(super) fn completion(arguments: &CompletionArguments) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "bellows", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the page of bellows, or writes those of all verbs.
pub(super) fn man(arguments: &ManArguments) -> anyhow::Result<ExitCode> {
    match &arguments.out {
        None => clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout())?,
        Some(directory) => write_pages(directory)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn write_pages(directory: &Path) -> anyhow::Result<()> {
    clap_mangen::generate_to(Cli::command(), directory)
        .with_context(|| format!("{} is not writable, or not a directory", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verb_that_is_shown_has_a_page_and_is_completed() {
        let directory = std::env::temp_dir().join(format!("bellows-man-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        write_pages(&directory).unwrap();
        let mut script = Vec::new();
        clap_complete::generate(Shell::Bash, &mut Cli::command(), "bellows", &mut script);
        let script = String::from_utf8(script).unwrap();
        for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let name = verb.get_name();
            assert!(directory.join(format!("bellows-{name}.1")).exists(), "{name}");
            assert!(script.contains(&format!("bellows,{name})")), "{name}");
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
