//! From when on records are wanted: an id, a time ago, a time of day, or an instant.
//!
//! | written | means |
//! |---|---|
//! | `57` | after the record with this id |
//! | `90s`, `5m`, `2h`, `1d` | so long ago |
//! | `14:03`, `14:03:07` | the last time that it was so late; UTC, as records are shown |
//! | `2026-07-01T14:03:07Z` | RFC 3339, with any offset |

/// Seconds of a day.
const DAY: u64 = 86_400;

/// From when on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    /// After the record with this id.
    After(u64),
    /// From this instant on, nanoseconds since the Unix epoch.
    From(u64),
}

/// Reads it; `now` in nanoseconds since the Unix epoch.
pub(super) fn parse(text: &str, now: u64) -> Result<Since, String> {
    if let Ok(id) = text.parse() {
        return Ok(Since::After(id));
    }
    let seconds = now / 1_000_000_000;
    let from = seconds_of(text)
        .map(|ago| seconds.saturating_sub(ago))
        .or_else(|| time_of_day(text).map(|time| last(time, seconds)))
        .or_else(|| instant(text));
    from.map(|seconds| Since::From(seconds.saturating_mul(1_000_000_000))).ok_or_else(|| {
        format!(
            "`{text}` is no time to begin at: write an id, as in 57, or 5m, 14:03, 2026-07-01T14:03:07Z (UTC)"
        )
    })
}

/// `5m` as seconds.
#[must_use]
pub fn seconds_of(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => DAY,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// How long a workload may take to end, in seconds.
pub fn grace_of(text: &str) -> Result<u64, String> {
    if text == "0" {
        return Ok(0);
    }
    seconds_of(text).ok_or_else(|| format!("{text:?} is not a duration: 0, 90s, 5m, 1h"))
}

/// `14:03` or `14:03:07` as seconds of the day.
fn time_of_day(text: &str) -> Option<u64> {
    let parts: Vec<u64> = text.split(':').map(two_digits).collect::<Option<_>>()?;
    let (hour, minute, second) = match parts[..] {
        [hour, minute] => (hour, minute, 0),
        [hour, minute, second] => (hour, minute, second),
        _ => return None,
    };
    (hour < 24 && minute < 60 && second < 61).then_some(hour * 3600 + minute * 60 + second)
}

/// The last time that the day was so old.
fn last(time: u64, now: u64) -> u64 {
    let today = now - now % DAY + time;
    if today <= now { today } else { today.saturating_sub(DAY) }
}

/// RFC 3339; fractions of a second are cut off.
fn instant(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let (time, offset) = time.split_at(time.find(['Z', 'z', '+', '-'])?);
    let time = time_of_day(time.split('.').next()?)?;
    let offset = match offset.split_at_checked(1)? {
        ("Z" | "z", "") => 0,
        (sign, offset) => {
            let seconds = i64::try_from(time_of_day(offset)?).ok()?;
            if sign == "+" { seconds } else { -seconds }
        }
    };
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, two_digits(parts.next()?)?, two_digits(parts.next()?)?);
    let year: u64 = year.parse().ok().filter(|year| (1970..=2261).contains(year))?;
    let is_date = (1..=12).contains(&month) && (1..=31).contains(&day) && parts.next().is_none();
    if !is_date {
        return None;
    }
    let seconds = i64::try_from(days(year, month, day) * DAY + time).ok()?;
    u64::try_from(seconds - offset).ok()
}

/// Days from the epoch to a date, by counting years from March on, so that a leap day is the last of its year.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year / 4 - year / 100 + year / 400;
    // 719 468 days from March of the year 0 to the epoch.
    365 * year + leaps + (153 * month + 2) / 5 + day - 1 - 719_468
}

fn two_digits(text: &str) -> Option<u64> {
    (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-07-01T12:00:00Z.
    const NOON: u64 = 1_782_907_200;

    #[test]
    fn beginnings() {
        let from = |seconds| Ok(Since::From(seconds * 1_000_000_000));
        for (text, since) in [
            ("57", Ok(Since::After(57))),
            ("0", Ok(Since::After(0))),
            ("90s", from(NOON - 90)),
            ("5m", from(NOON - 300)),
            ("2h", from(NOON - 7200)),
            ("1d", from(NOON - DAY)),
            ("11:30", from(NOON - 1800)),
            ("12:00:00", from(NOON)),
            ("14:03", from(NOON + 2 * 3600 + 180 - DAY)),
            ("2026-07-01T12:00:00Z", from(NOON)),
            ("2026-07-01T14:00:00.250+02:00", from(NOON)),
            ("2026-06-30T23:30:00-12:30", from(NOON)),
            ("1970-01-01T00:00:00Z", from(0)),
            ("2000-02-29T00:00:00Z", from(951_782_400)),
        ] {
            assert_eq!(parse(text, NOON * 1_000_000_000), since, "{text}");
        }
        for text in
            ["", "m", "5w", "25:00", "1:2", "yesterday", "2026-13-01T00:00:00Z", "2026-07-01T12:00:00", "é"]
        {
            assert!(parse(text, NOON).is_err(), "{text}");
        }
    }
}
