//! The terminal: a block of lines that is drawn again in place, and news that stay above it. Without a terminal, plain lines.

use std::collections::VecDeque;
use std::env;
use std::io::{self, IsTerminal, Write};

/// Set by whoever runs the demo at a terminal that the demo itself cannot see, as in a guest.
const TERMINAL: &str = "BELLOWS_TERMINAL";
/// Moves of limits that the block shows.
const TAIL: usize = 4;

/// Where the demo shows itself.
#[derive(Debug)]
pub(crate) struct Screen {
    is_terminal: bool,
    is_coloured: bool,
    /// Lines of the block that stand on the terminal now.
    drawn: usize,
    tail: VecDeque<String>,
}

/// How a piece of text is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Style {
    /// A title.
    Bold,
    /// Of less interest.
    Dim,
    /// Well.
    Green,
    /// Near a limit.
    Yellow,
    /// Lost.
    Red,
}

impl Screen {
    /// As the environment allows: `NO_COLOR` and a dumb terminal are respected.
    pub(crate) fn open() -> Self {
        let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let is_terminal = (io::stdout().is_terminal() || is_set(TERMINAL)) && !is_dumb;
        Self { is_terminal, is_coloured: is_terminal && !is_set("NO_COLOR"), drawn: 0, tail: VecDeque::new() }
    }

    /// Whether a block can be drawn.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// `text` in `style`, where there are colours.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Bold => 1,
            Style::Dim => 2,
            Style::Green => 32,
            Style::Yellow => 33,
            Style::Red => 31,
        };
        if self.is_coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Says something that stays.
    pub(crate) fn say(&mut self, line: &str) {
        let mut text = self.rewind();
        text.push_str(line);
        text.push('\n');
        put(&text);
        self.drawn = 0;
    }

    /// Tells of something that passes by: the last few are part of the block.
    pub(crate) fn mention(&mut self, line: String) {
        if !self.is_terminal {
            return self.say(&line);
        }
        self.tail.truncate(TAIL - 1);
        self.tail.push_front(line);
    }

    /// Draws the block: what is there now is written over.
    pub(crate) fn draw(&mut self, lines: &[String]) {
        let mut text = self.rewind();
        // A line that is too long is cut off by the terminal, since a wrapped one would count as two.
        text.push_str("\x1b[?7l");
        let tail: Vec<String> = self.tail.iter().rev().map(|line| self.paint(Style::Dim, line)).collect();
        for line in lines.iter().chain(&tail) {
            text.push_str(line);
            text.push_str("\x1b[K\n");
        }
        text.push_str("\x1b[?7h");
        put(&text);
        self.drawn = lines.len() + tail.len();
    }

    /// Leaves the block where it stands, and begins a new one below.
    pub(crate) fn leave(&mut self) {
        self.drawn = 0;
        self.tail.clear();
    }

    /// Goes back to the block's first line and clears what is below.
    fn rewind(&self) -> String {
        if self.drawn == 0 { String::new() } else { format!("\x1b[{}A\r\x1b[J", self.drawn) }
    }
}

fn put(text: &str) {
    let mut stdout = io::stdout().lock();
    // Nobody to show it to: the figures are written to a file in any case.
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
}
