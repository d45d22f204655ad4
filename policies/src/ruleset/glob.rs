//! Patterns of names: `*` is any text, also none, `?` is any one character; everything else is itself. No classes, no
//! escapes: names have neither brackets nor backslashes. Written by hand, because it is twenty lines.

/// Whether `name` fits `pattern`. Linear but for backtracking to the last `*`.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    fits(pattern.as_bytes(), name.as_bytes(), |p, n| p == b'?' || p == n)
}

/// Whether everything that fits `narrow` fits `wide` too. It may miss that (`*?` covers `?*`), and never claims it wrongly:
/// `narrow` is read as a name whose `?` only `?` and `*` fit, and whose `*` only `*` fits.
#[must_use]
pub fn covers(wide: &str, narrow: &str) -> bool {
    fits(wide.as_bytes(), narrow.as_bytes(), |w, n| n != b'*' && (w == b'?' || w == n))
}

fn fits(pattern: &[u8], name: &[u8], is_same: impl Fn(u8, u8) -> bool) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go back to: behind the last `*`, with it standing for one character more.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(&byte) if is_same(byte, name[n]) => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((back, taken)) = star else { return false };
                star = Some((back, taken + 1));
                (p, n) = (back, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns() {
        for (pattern, name, fit) in [
            ("web", "web", true),
            ("web", "web-1", false),
            ("*", "", true),
            ("*", "anything", true),
            ("web-*", "web-", true),
            ("web-*", "web-12", true),
            ("web-?", "web-12", false),
            ("*-db", "a-db-db", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbX", false),
            ("**", "x", true),
            ("?", "", false),
        ] {
            assert_eq!(matches(pattern, name), fit, "{pattern} {name}");
        }
    }

    #[test]
    fn one_pattern_covers_another() {
        for (wide, narrow, covered) in [
            ("*", "web-*", true),
            ("web-*", "web-1", true),
            ("web-*", "web-1*", true),
            ("web-*", "web-*", true),
            ("web-?", "web-*", false),
            ("web-1", "web-*", false),
            ("we?", "web", true),
            ("web", "we?", false),
        ] {
            assert_eq!(covers(wide, narrow), covered, "{wide} {narrow}");
        }
    }

    proptest! {
        #[test]
        fn what_is_covered_matches_no_more(wide in "[ab?*]{0,6}", narrow in "[ab?*]{0,6}", name in "[ab]{0,8}") {
            if covers(&wide, &narrow) && matches(&narrow, &name) {
                prop_assert!(matches(&wide, &name), "{} {} {}", wide, narrow, name);
            }
        }
    }
}
