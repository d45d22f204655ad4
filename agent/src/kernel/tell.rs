//! A line for the operator on standard error. It may be a pipe whose reader is dead: nothing here fails or panics for that,
//! as `eprintln!` would. It may also block; so it is never called from the control loop, and after the work, not before.

use std::io::Write;

/// Writes one line, if anybody takes it.
pub fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "bellows: {line}");
}
