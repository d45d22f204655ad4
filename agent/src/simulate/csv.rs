//! A trace from a file: CSV with a header, columns in any order. docs/simulate.md has the schema. What is wrong is told as of
//! a policy: file, line, column, and what was meant; up to a bound, all at once.

use std::collections::BTreeMap;
use std::str::FromStr;

use bellows_policies::{Bounds, CpuBounds};
use bellows_simulator::trace::{COLUMNS, Life, Row, Trace};

use crate::policy::{Diagnostic, Place, Source, meant};
use crate::workload::spec::Name;

/// So many things wrong are told; what follows is often of the same kind.
const TOLD: usize = 20;
/// The latest time, seconds: a year and more.
const LATEST: f64 = 4e7;

/// One value with its place.
#[derive(Clone, Copy)]
struct Field<'s> {
    text: &'s str,
    place: Place,
}

/// A life that goes on.
struct Open {
    life: Life,
    rows: Vec<Row>,
    line: usize,
}

/// What has been read so far.
struct Reader<'s> {
    /// Where each column of the schema stands in a row.
    columns: Vec<Option<usize>>,
    open: BTreeMap<(String, String), Open>,
    trace: Trace,
    /// The last time, and its line.
    last: (u64, usize),
    found: Vec<Diagnostic>,
    source: &'s Source,
}

/// Reads a trace, or tells all that is wrong with it.
pub fn read_trace(source: &Source) -> Result<Trace, Vec<Diagnostic>> {
    let mut lines = fields(&source.text);
    let Some((_, header)) = lines.next() else {
        let place = Place { file: 0, start: 0, end: 0 };
        let text = format!("the trace is empty: its first line names the columns, {}", names(true));
        return Err(vec![Diagnostic::error(place, text)]);
    };
    let mut reader = Reader {
        columns: Vec::new(),
        open: BTreeMap::new(),
        trace: Trace::default(),
        last: (0, 0),
        found: Vec::new(),
        source,
    };
    reader.take_header(&header);
    for (line, fields) in lines {
        if reader.found.len() >= TOLD {
            break;
        }
        reader.take_row(line, header.len(), &fields);
    }
    reader.finish()
}

/// The lines that say something, by number, cut into fields.
fn fields(text: &str) -> impl Iterator<Item = (usize, Vec<Field<'_>>)> {
    let mut offset = 0;
    text.split_inclusive('\n').enumerate().filter_map(move |(number, line)| {
        let begin = offset;
        offset += line.len();
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            return None;
        }
        let mut at = begin;
        let fields = line.trim_end_matches(['\n', '\r']).split(',').map(|raw| {
            let start = at + raw.len() - raw.trim_start().len();
            at += raw.len() + 1;
            let text = raw.trim();
            Field { text, place: Place { file: 0, start, end: start + text.len() } }
        });
        Some((number + 1, fields.collect()))
    })
}

fn names(is_required: bool) -> String {
    let names: Vec<&str> =
        COLUMNS.iter().filter(|(_, required, _)| *required == is_required).map(|(name, ..)| *name).collect();
    names.join(", ")
}

impl Reader<'_> {
    fn take_header(&mut self, header: &[Field]) {
        for field in header {
            let is_known = COLUMNS.iter().any(|(name, ..)| *name == field.text);
            if !is_known {
                let text = format!("there is no column `{}`", field.text);
                let help = meant(field.text, COLUMNS.iter().map(|(name, ..)| *name));
                let help = help.or_else(|| Some(format!("there are {}, and {}", names(true), names(false))));
                self.wrong(*field, text, help);
            } else if header.iter().filter(|other| other.text == field.text).count() > 1 {
                self.wrong(*field, format!("the column `{}` is there twice", field.text), None);
            }
        }
        for (name, is_required, what) in COLUMNS {
            let at = header.iter().position(|field| field.text == *name);
            self.columns.push(at);
            if at.is_none() && *is_required {
                self.wrong(header[0], format!("the column `{name}` is missing: {what}"), None);
            }
        }
    }

    fn take_row(&mut self, line: usize, count: usize, fields: &[Field]) {
        if fields.len() != count {
            let text = format!("this row has {} fields, and the header names {count}", fields.len());
            return self.wrong(fields[0], text, None);
        }
        let column = |name: &str| {
            let at = COLUMNS.iter().position(|(known, ..)| *known == name);
            at.and_then(|at| self.columns.get(at).copied().flatten()).map(|at| fields[at])
        };
        let [time, tenant, workload, need] = ["time", "tenant", "workload", "need"].map(column);
        // What the header lacks was told.
        let (Some(time), Some(tenant), Some(workload), Some(need)) = (time, tenant, workload, need) else {
            return;
        };
        let [cache, cores, piece, class, memory, cpu] =
            ["cache", "cores", "piece_ms", "class", "memory", "cpu"].map(column);
        let at = self.time(time, line);
        for (what, name) in [("tenant", tenant), ("workload", workload)] {
            let _: Option<Name> = self.value(what, Some(name));
        }
        let key = (tenant.text.to_owned(), workload.text.to_owned());
        if need.text == "end" {
            let Some(open) = self.open.remove(&key) else {
                return self.wrong(need, format!("{}/{} ends, and has not begun", key.0, key.1), None);
            };
            return self.close(open, at);
        }
        let row = Row {
            at: at.unwrap_or_default(),
            need: self.value("need", Some(need)).unwrap_or_default(),
            cache: self.value("cache", cache).unwrap_or_default(),
            cores: self.value("cores", cores).unwrap_or_default(),
            piece_us: self.value::<Millis>("piece_ms", piece).map_or(0, |millis| millis.0),
        };
        let class = class.filter(|class| !class.text.is_empty());
        let (bounds, quota): (Option<Bounds>, Option<CpuBounds>) =
            (self.value("memory", memory), self.value("cpu", cpu));
        match self.open.get_mut(&key) {
            None => {
                let begun = Life {
                    tenant: key.0.clone(),
                    name: key.1.clone(),
                    class: class.map(|class| class.text.to_owned()),
                    memory: bounds,
                    cpu: quota,
                    rows: [].into(),
                    ends: None,
                };
                self.open.insert(key, Open { life: begun, rows: vec![row], line });
            }
            Some(open) => {
                let (first, was) = (open.line, open.life.class.clone().unwrap_or_default());
                open.rows.push(row);
                if let Some(class) = class.filter(|class| class.text != was) {
                    let text = format!("class: {}/{} keeps its class for life", key.0, key.1);
                    let help = format!("it is `{was}` on line {first}; an `end` begins a new life");
                    self.wrong(class, text, Some(help));
                }
            }
        }
    }

    /// The time of a row, nanoseconds.
    fn time(&mut self, field: Field, line: usize) -> Option<u64> {
        let seconds = field.text.parse::<f64>().ok().filter(|seconds| (0.0..LATEST).contains(seconds));
        let Some(seconds) = seconds else {
            let text = format!(
                "time: `{}` is not a time: write seconds since the trace began, as in 12.5",
                field.text
            );
            self.wrong(field, text, None);
            return None;
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within bounds")]
        let at = (seconds * 1e6).round() as u64 * 1000;
        let (last, on) = self.last;
        if at < last {
            let text = format!("time: {seconds} comes after {} on line {on}", last as f64 / 1e9);
            self.wrong(field, text, Some("rows are in the order of time".to_owned()));
        }
        self.last = (at.max(last), line);
        Some(at)
    }

    /// A value of a column, none where it is empty or wrong.
    fn value<T: FromStr<Err: std::fmt::Display>>(&mut self, column: &str, field: Option<Field>) -> Option<T> {
        let field = field?;
        let is_needed = COLUMNS.iter().any(|(name, needed, _)| *name == column && *needed);
        if field.text.is_empty() && !is_needed {
            return None;
        }
        match field.text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.wrong(field, format!("{column}: {error}"), None);
                None
            }
        }
    }

    fn close(&mut self, open: Open, ends: Option<u64>) {
        let life = Life { rows: open.rows.into(), ends, ..open.life };
        self.trace.lives.push(life);
    }

    fn wrong(&mut self, field: Field, text: String, help: Option<String>) {
        self.found.push(Diagnostic::error(field.place, text).help(help));
    }

    fn finish(mut self) -> Result<Trace, Vec<Diagnostic>> {
        let open = std::mem::take(&mut self.open);
        for open in open.into_values() {
            self.close(open, None);
        }
        self.trace.ends = self.last.0;
        if self.found.is_empty() && (self.trace.lives.is_empty() || self.trace.ends == 0) {
            let end = self.source.text.len();
            let text = "the trace is over before it begins: it needs rows of two different times";
            self.found.push(Diagnostic::error(Place { file: 0, start: end, end }, text));
        }
        if !self.found.is_empty() {
            return Err(self.found);
        }
        self.trace
            .lives
            .sort_by(|a, b| (a.begins(), &a.tenant, &a.name).cmp(&(b.begins(), &b.tenant, &b.name)));
        Ok(self.trace)
    }
}

/// Milliseconds, with a fraction; kept as microseconds.
struct Millis(u64);

impl FromStr for Millis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let millis =
            text.parse::<f64>().ok().filter(|millis| *millis == 0.0 || (0.1..=1000.0).contains(millis));
        let millis =
            millis.ok_or_else(|| format!("`{text}` is not a time: write 0, or 0.1 to 1000 milliseconds"))?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within bounds")]
        Ok(Self((millis * 1e3).round() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bellows_simulator::{Kind, generate};

    fn source(text: &str) -> Source {
        Source { name: "night.csv".to_owned(), text: text.to_owned() }
    }

    fn problems(text: &str) -> String {
        let source = source(text);
        let found = read_trace(&source).expect_err("it is wrong");
        found.iter().map(|d| d.render(std::slice::from_ref(&source))).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_is_written_reads_back_as_the_same() {
        for kind in [Kind::Mixed, Kind::Churning] {
            let trace = generate(kind, 7, 600_000_000_000, 3);
            let read = read_trace(&source(&trace.to_string())).expect("it is sound");
            assert_eq!((read.ends, read.lives.len()), (trace.ends, trace.lives.len()));
            for life in &trace.lives {
                let ends = Some(life.ends.unwrap_or(trace.ends));
                let same = Life { ends, ..life.clone() };
                assert!(read.lives.contains(&same), "{same:?}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let text = "# a night\ntime,tenant,workload,ned,class\n0,acme,web,64M,\n";
        insta::assert_snapshot!(problems(text));
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let text = "time,tenant,workload,need,cores,class,memory\n\
                    0,acme,web,64M,0.5,latency,64M..1G\n\
                    1,acme,w eb,64Q,half,,2G..1G\n\
                    x,acme,web,64M,1,,\n\
                    0.5,acme,web,64M,1,batch,\n\
                    2,acme,db,end,,,\n\
                    3,acme\n";
        insta::assert_snapshot!(problems(text));
        insta::assert_snapshot!(problems(""));
    }
}
