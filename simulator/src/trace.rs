//! Traces: what workloads want over time, whether they get it or not. docs/simulate.md has the schema as people see it.

use std::fmt;
use std::sync::Arc;

use bellows_policies::{Bounds, Bytes, CpuBounds, Cpus};

use crate::load::SECOND;

/// A column of the schema: its name, whether a trace has to have it, and what stands in it.
pub type Column = (&'static str, bool, &'static str);

/// The columns, in the order in which they are written.
pub const COLUMNS: &[Column] = &[
    ("time", true, "seconds since the trace began; rows are in its order"),
    ("tenant", true, "whose workload it is"),
    ("workload", true, "its name"),
    ("need", true, "memory that it cannot do without, a size; `end` where the workload ends"),
    ("cache", false, "page cache that it reads again and again, a size"),
    ("cores", false, "cpus that its work would keep busy"),
    (
        "piece_ms",
        false,
        "the work comes in pieces of so many milliseconds of cpu time, at random; evenly when 0",
    ),
    ("class", false, "the class that it asks for; by rule when empty"),
    ("memory", false, "FLOOR..CEILING, for a class that sets none"),
    ("cpu", false, "FLOOR..CEILING, for a class that sets none"),
];

/// What a workload wants from an instant on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Nanoseconds since the trace began.
    pub at: u64,
    /// Memory that it cannot do without.
    pub need: Bytes,
    /// Page cache that it reads again and again.
    pub cache: Bytes,
    /// Cpus that its work would keep busy.
    pub cores: Cpus,
    /// The cpu time of a piece of that work, microseconds; zero where it comes evenly.
    pub piece_us: u64,
}

/// One life of a workload, from its first row to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Life {
    /// Its owner.
    pub tenant: String,
    /// Its name.
    pub name: String,
    /// The class that it asks for.
    pub class: Option<String>,
    /// Bounds of memory, for a class that sets none.
    pub memory: Option<Bounds>,
    /// Bounds of the cpu quota, for a class that sets none.
    pub cpu: Option<CpuBounds>,
    /// What it wants, in the order of time; never empty.
    pub rows: Arc<[Row]>,
    /// When it ends, nanoseconds since the trace began; none where it outlives the trace.
    pub ends: Option<u64>,
}

/// All lives of all workloads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// In the order of their beginnings.
    pub lives: Vec<Life>,
    /// When it is over, nanoseconds.
    pub ends: u64,
}

impl Life {
    /// When it begins, nanoseconds since the trace began.
    #[must_use]
    pub fn begins(&self) -> u64 {
        self.rows.first().map_or(0, |row| row.at)
    }

    /// What it wants at an instant.
    #[must_use]
    pub fn row(&self, at: u64) -> Row {
        let next = self.rows.partition_point(|row| row.at <= at);
        self.rows[next.saturating_sub(1)]
    }

    /// `tenant/workload`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.tenant, self.name)
    }
}

/// One line of a trace as CSV, without its end.
#[derive(Clone, Copy, Debug)]
pub struct Line<'l> {
    /// Nanoseconds since the trace began.
    pub at: u64,
    /// Whose it is.
    pub life: &'l Life,
    /// What it wants; none where it ends.
    pub row: Option<Row>,
    /// It begins: what stays for life is written once.
    pub is_first: bool,
}

/// The line that names the columns.
#[must_use]
pub fn header() -> String {
    let names: Vec<&str> = COLUMNS.iter().map(|(name, ..)| *name).collect();
    names.join(",")
}

/// As CSV, with all columns.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", header())?;
        let mut lines = Vec::new();
        for (index, life) in self.lives.iter().enumerate() {
            let line = |row: &Row| {
                let is_first = row.at == life.begins();
                (index, Line { at: row.at, life, row: Some(*row), is_first })
            };
            lines.extend(life.rows.iter().map(line));
            let at = life.ends.unwrap_or(self.ends);
            lines.push((index, Line { at, life, row: None, is_first: false }));
        }
        // An end comes after whatever else is of its instant.
        lines.sort_by_key(|(index, line)| (line.at, line.row.is_none(), *index));
        lines.iter().try_for_each(|(_, line)| writeln!(f, "{line}"))
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Life { tenant, name, class, memory, cpu, .. } = self.life;
        write!(f, "{},{tenant},{name},", Seconds(self.at))?;
        let Some(Row { need, cache, cores, piece_us, .. }) = self.row else {
            return f.write_str("end,,,,,,");
        };
        write!(f, "{},{},{cores},{}", Size(need), Size(cache), piece_us as f64 / 1e3)?;
        if !self.is_first {
            return f.write_str(",,,");
        }
        let memory = memory.map(|b| format!("{}..{}", Size(b.floor), Size(b.ceiling))).unwrap_or_default();
        let cpu = cpu.map(|bounds| bounds.to_string()).unwrap_or_default();
        write!(f, ",{},{memory},{cpu}", class.as_deref().unwrap_or_default())
    }
}

/// Seconds without a tail of zeros.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:09}", self.0 / SECOND, self.0 % SECOND);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// A size that reads back as the very same: in the largest unit that divides it.
struct Size(Bytes);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.0 {
            0 => f.write_str("0"),
            bytes if bytes.is_multiple_of(1 << 20) => write!(f, "{}M", bytes >> 20),
            bytes if bytes.is_multiple_of(1 << 10) => write!(f, "{}K", bytes >> 10),
            bytes => write!(f, "{bytes}"),
        }
    }
}
