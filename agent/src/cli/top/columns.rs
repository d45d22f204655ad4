//! The columns of the table: what each says of a workload, how wide it is, and for which there is room.

use bellows_policies::units::Bytes;

use super::state::Top;
use crate::api::types::WorkloadView;

/// Characters of the band that shows use between nothing and the ceiling.
const BAND: usize = 16;

/// A column after the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Class,
    State,
    Used,
    Band,
    Granted,
    Cpus,
    Quota,
    Moves,
}

impl Column {
    pub(super) const ALL: [Self; 8] = [
        Self::Class,
        Self::State,
        Self::Used,
        Self::Band,
        Self::Granted,
        Self::Cpus,
        Self::Quota,
        Self::Moves,
    ];

    /// Its title, how wide it is, and from what width of the screen on it is shown.
    const fn shape(self) -> (&'static str, usize, usize) {
        match self {
            Self::Class => ("CLASS", 9, 92),
            Self::State => ("STATE", 9, 0),
            Self::Used => ("USED", 6, 0),
            Self::Band => ("BAND", BAND + 2, 0),
            Self::Granted => ("GRANTED", 8, 0),
            Self::Cpus => ("CPUS", 5, 0),
            Self::Quota => ("QUOTA", 5, 100),
            Self::Moves => ("MOVES", 7, 108),
        }
    }

    /// Words begin on the left, figures end on the right.
    const fn is_figure(self) -> bool {
        !matches!(self, Self::Class | Self::State | Self::Band)
    }

    pub(super) fn pad(self, text: &str) -> String {
        let width = self.shape().1;
        let text = cut(text, width);
        if self.is_figure() { format!(" {text:>width$}") } else { format!(" {text:<width$}") }
    }

    pub(super) fn value(self, top: &Top, workload: &WorkloadView) -> String {
        match self {
            Self::Class => workload.class.clone(),
            Self::State => state(workload).to_owned(),
            Self::Used => short(workload.memory_current),
            Self::Band => band(workload),
            Self::Granted => match (workload.would_high, workload.memory_high) {
                (Some(would), _) => format!("({})", short(would)),
                (None, Some(high)) => short(high),
                (None, None) => "max".to_owned(),
            },
            Self::Cpus => top.cpus(workload).map_or_else(|| "-".to_owned(), |cpus| format!("{cpus:.2}")),
            Self::Quota => workload
                .cpu_quota
                .map_or_else(|| "-".to_owned(), |cpus| format!("{:.2}", cpus.0 as f64 / 1e6)),
            Self::Moves => (workload.limit_moves + workload.quota_moves + workload.would_moves).to_string(),
        }
    }

    /// Those for which there is room, and how much that leaves for the name.
    pub(super) fn fitting(width: usize) -> (Vec<Self>, usize) {
        let columns: Vec<Self> = Self::ALL.into_iter().filter(|column| width >= column.shape().2).collect();
        let taken: usize = columns.iter().map(|column| column.shape().1 + 1).sum();
        (columns, width.saturating_sub(taken).max(8))
    }
}

/// The line of titles.
pub(super) fn titles(columns: &[Column], named: usize) -> String {
    let mut text = format!("{:<named$}", "WORKLOAD");
    text.extend(columns.iter().map(|column| column.pad(column.shape().0)));
    text
}

/// Use within what is granted, of the ceiling: `[####==|....]`.
fn band(workload: &WorkloadView) -> String {
    let upto = |bytes| cells_of(bytes, workload.memory.ceiling, BAND);
    let limit = workload.would_high.or(workload.memory_high);
    let (used, high) = (upto(workload.memory_current), limit.map(upto));
    let cells = (0..BAND).map(|cell| match high {
        Some(high) if cell + 1 == high.max(1) => '|',
        _ if cell < used => '#',
        Some(high) if cell < high => '=',
        _ => '.',
    });
    format!("[{}]", cells.collect::<String>())
}

/// So many of `width` cells, where `most` is all of them; something is one at least.
pub(super) fn cells_of(bytes: Bytes, most: Bytes, width: usize) -> usize {
    let cells = bytes.0.saturating_mul(width as u64).div_ceil(most.0.max(1));
    usize::try_from(cells).unwrap_or(width).min(width)
}

/// Its state in the table.
pub(super) fn state(workload: &WorkloadView) -> &str {
    match workload {
        WorkloadView { is_frozen: true, .. } => "frozen",
        WorkloadView { yielded: true, .. } => "yielded",
        WorkloadView { would_high: Some(_), .. } => "observed",
        WorkloadView { adopted: true, .. } => "adopted",
        other => &other.state,
    }
}

/// At most so many characters; what is cut off is shown to be.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept + "~"
}

/// A size in six characters: `1023M`, `12.5G`.
pub(super) fn short(bytes: Bytes) -> String {
    const UNITS: [(&str, u32); 4] = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];
    for (unit, shift) in UNITS {
        let value = bytes.0 as f64 / (1_u64 << shift) as f64;
        if value >= 1.0 {
            return if value < 10.0 { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") };
        }
    }
    bytes.0.to_string()
}
