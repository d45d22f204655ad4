//! What is wrong with a policy, as a compiler tells it: where, the line, what was meant, and the other place.

use std::fmt::Write;

use super::source::{Place, Source};

/// The longest line that is shown.
const SHOWN: usize = 240;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub(super) place: Place,
    /// What is wrong.
    pub message: String,
    /// What to do, or what was meant.
    pub(super) help: Option<String>,
    /// What else has to do with it, and where that is unless built in.
    pub(super) note: Option<(String, Option<Place>)>,
}

impl Diagnostic {
    pub(crate) fn error(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into(), help: None, note: None }
    }

    pub(crate) fn help(self, help: Option<String>) -> Self {
        Self { help, ..self }
    }

    pub(crate) fn note(self, text: impl Into<String>, place: Option<Place>) -> Self {
        Self { note: Some((text.into(), place)), ..self }
    }

    /// Where it stands, for sorting.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// In one line, for a log.
    #[must_use]
    pub fn brief(&self, sources: &[Source]) -> String {
        let source = &sources[self.place.file];
        let (line, column) = source.position(self.place.start);
        let help = self.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{}:{line}:{column}: {}{help}", source.name, self.message)
    }

    /// For people: several lines.
    #[must_use]
    pub fn render(&self, sources: &[Source]) -> String {
        let source = &sources[self.place.file];
        let (number, column) = source.position(self.place.start);
        let gutter = " ".repeat(number.to_string().len());
        let mut text = format!("error: {}\n{gutter} --> {}:{number}:{column}\n", self.message, source.name);
        let line = source.text.lines().nth(number - 1).unwrap_or_default();
        let help = self.help.as_deref().unwrap_or_default();
        if line.is_empty() || line.chars().count() > SHOWN {
            if !help.is_empty() {
                let _ = writeln!(text, "{gutter}  = {help}");
            }
        } else {
            // Tabs stay tabs, so that the caret stands below.
            let indent: String =
                line.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            let stretch = source.text.get(self.place.start..self.place.end).unwrap_or_default();
            let carets = "^".repeat(stretch.lines().next().unwrap_or_default().chars().count().max(1));
            let marked = format!("{gutter} | {indent}{carets} {help}");
            let _ = write!(text, "{gutter} |\n{number} | {line}\n{}\n", marked.trim_end());
        }
        if let Some((note, place)) = &self.note {
            let at = place.map_or_else(
                || "built-in".to_owned(),
                |place| {
                    let source = &sources[place.file];
                    let (line, column) = source.position(place.start);
                    format!("{}:{line}:{column}", source.name)
                },
            );
            let _ = writeln!(text, "{gutter}  = note: {note}: {at}");
        }
        text
    }

    /// For machines.
    #[must_use]
    pub fn json(&self, sources: &[Source]) -> serde_json::Value {
        let position = |place: Place| {
            let source = &sources[place.file];
            let ((line, column), (end_line, end_column)) =
                (source.position(place.start), source.position(place.end));
            serde_json::json!({ "file": source.name, "line": line, "column": column,
                "end_line": end_line, "end_column": end_column })
        };
        serde_json::json!({
            "level": "error",
            "place": position(self.place),
            "message": self.message,
            "help": self.help,
            "note": self.note.as_ref().map(|(text, place)| {
                serde_json::json!({ "message": text, "place": place.map(position) })
            }),
        })
    }
}

/// "did you mean ...?", if one of `known` is near enough to have been meant.
pub(crate) fn meant<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let most = word.chars().count().div_ceil(3).min(3);
    let near = |other: &&str| other.len().abs_diff(word.len()) <= 3;
    let nearest = known.into_iter().filter(near).min_by_key(|other| distance(word, other))?;
    (distance(word, nearest) <= most).then(|| format!("did you mean `{nearest}`?"))
}

/// Edits that make one word of the other: a letter more, less, other, or two swapped.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_near() {
        let known = ["floor", "ceiling", "swap_max"];
        for (word, found) in [
            ("cieling", Some("ceiling")),
            ("flor", Some("floor")),
            ("swapmax", Some("swap_max")),
            ("x", None),
            ("roof", None),
        ] {
            let found = found.map(|f| format!("did you mean `{f}`?"));
            assert_eq!(meant(word, known), found, "{word}");
        }
    }
}
