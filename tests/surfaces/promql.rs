//! What an expression names. No parser: Prometheus itself reads every expression in a test, this finds the names in it.

use std::collections::BTreeSet;

use bellows::metrics::catalogue::{self, Kind, Metric};

/// Words of an expression outside of strings and braces.
fn words(expression: &str) -> Vec<String> {
    let (mut words, mut word, mut depth, mut is_quoted) = (Vec::new(), String::new(), 0_i32, false);
    for c in expression.chars().chain([' ']) {
        match c {
            '"' => is_quoted = !is_quoted,
            '{' if !is_quoted => depth += 1,
            '}' if !is_quoted => depth -= 1,
            _ => {}
        }
        if !is_quoted && depth == 0 && (c.is_ascii_alphanumeric() || c == '_' || c == ':') {
            word.push(c);
        } else if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
    }
    words
}

/// Names of metrics, of the catalogue and recorded ones.
#[must_use]
pub fn names(expression: &str) -> BTreeSet<String> {
    let is_name = |word: &str| {
        word.starts_with("bellows_") || word.starts_with("process_") || word.contains(':') || word == "up"
    };
    words(expression).into_iter().filter(|word| is_name(word)).collect()
}

/// The metric that a name in an expression is of: histograms have three.
#[must_use]
pub fn metric(name: &str) -> Option<&'static Metric> {
    catalogue::find(name).filter(|metric| metric.kind != Kind::Histogram).or_else(|| {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix))?;
        catalogue::find(family).filter(|metric| metric.kind == Kind::Histogram)
    })
}

/// Selectors of the expression: a name with its matchers, and the range behind them if there is one.
#[must_use]
pub fn selectors(expression: &str) -> Vec<(String, String, Option<String>)> {
    let mut found = Vec::new();
    for name in names(expression) {
        for (at, _) in expression.match_indices(&name) {
            let before = expression[..at].chars().next_back();
            let rest = &expression[at + name.len()..];
            let goes_on = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
            if before.is_some_and(goes_on) || rest.starts_with(goes_on) {
                continue;
            }
            let (matchers, rest) = match rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
                Some((matchers, rest)) => (matchers.to_owned(), rest),
                None => (String::new(), rest),
            };
            let range =
                rest.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(r, _)| r.to_owned());
            found.push((name.clone(), matchers, range));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_selectors_are_found() {
        let text = "sum by (le) (rate(bellows_turn_seconds_bucket{job=\"bellows_x\"}[5m])) / up + a:b:c";
        let found: Vec<String> = names(text).into_iter().collect();
        assert_eq!(found, ["a:b:c", "bellows_turn_seconds_bucket", "up"]);
        let selector =
            ("bellows_turn_seconds_bucket".to_owned(), "job=\"bellows_x\"".to_owned(), Some("5m".to_owned()));
        assert!(selectors(text).contains(&selector));
        assert!(metric("bellows_turn_seconds_bucket").is_some());
        assert!(metric("bellows_turn_seconds").is_none() && metric("bellows_no").is_none());
    }
}
