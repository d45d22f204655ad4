//! `bellows-word`: the least program that shows that it runs. What `bellows-bench` starts in boxes, since a large one would hide
//! what the box costs.
//!
//! Without arguments it says a word and ends. `stay` says it and ends with its standard input. `fork` starts itself once for each
//! byte on its standard input, and answers with the nanoseconds that this took, eight bytes each; `none` is what it starts. `sleep`
//! goes on until it is killed.

use std::io::{Error, Read, Write};
use std::process::{Command, ExitCode};
use std::time::Instant;

fn main() -> ExitCode {
    let mode = std::env::args().nth(1);
    let result = match mode.as_deref() {
        None => say(),
        Some("stay") => say().and_then(|()| std::io::stdin().read_to_end(&mut Vec::new()).map(drop)),
        Some("fork") => fork(),
        Some("none") => Ok(()),
        Some("sleep") => loop {
            std::thread::park();
        },
        Some(other) => Err(Error::other(format!("{other} is not a mode: none, stay, sleep, fork"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bellows-word: {error}");
            ExitCode::FAILURE
        }
    }
}

fn say() -> Result<(), Error> {
    let mut out = std::io::stdout();
    out.write_all(b"w").and_then(|()| out.flush())
}

/// By a path from the working directory: inside of a box and outside it is equally long.
fn fork() -> Result<(), Error> {
    let (mut orders, mut answers) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut order = [0];
    while orders.read(&mut order)? == 1 {
        let begun = Instant::now();
        let status = Command::new("./word").arg("none").status()?;
        let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if !status.success() {
            return Err(Error::other(format!("a child: {status}")));
        }
        answers.write_all(&took.to_ne_bytes()).and_then(|()| answers.flush())?;
    }
    Ok(())
}
