//! The live table: one line for each tenant, as a block on a terminal, else a line for all now and then.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use bellows::journal::{Record, What};
use bellows_policies::Verb;
use bellows_policies::units::Bytes;

use crate::scenario::{BUDGET, LENGTH, TENANTS, Tenant};
use crate::screen::{Screen, Style};
use crate::stage::Way;
use crate::watch::{Seat, Watch};

/// Time between two drawings of the block.
const DRAW_PERIOD: Duration = Duration::from_millis(400);
/// Time between two plain lines.
const LINE_PERIOD: Duration = Duration::from_secs(4);
/// Cells of a bar.
const CELLS: usize = 24;
/// What a full bar stands for.
const SCALE: Bytes = Bytes::mib(216);
/// Use of the limit from which a tenant is near it.
const NEAR: f64 = 0.95;

/// Shows one way.
#[derive(Debug)]
pub(crate) struct Live<'a> {
    screen: &'a mut Screen,
    way: Way,
    start: Instant,
    start_unix_ns: u64,
    next: Instant,
}

impl<'a> Live<'a> {
    /// Begins to count the time.
    pub(crate) fn start(screen: &'a mut Screen, way: Way) -> Self {
        say_head(screen);
        let start = Instant::now();
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start_unix_ns = u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX);
        Self { screen, way, start, start_unix_ns, next: start }
    }

    /// Seconds since it began.
    pub(crate) fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// Tells of something that happened, with the time.
    pub(crate) fn tell(&mut self, style: Style, text: &str) {
        let line = self.screen.paint(style, &format!("{:>6.1} s  {text}", self.now()));
        self.screen.say(&line);
    }

    /// Tells of a move of a limit, if the record is one. Quotas move often: they are told in passing only.
    pub(crate) fn tell_move(&mut self, record: &Record) {
        if let What::QuotaMoved { verb, reason, from, to, .. } = &record.what
            && self.screen.is_terminal()
        {
            let after = self.after(record);
            let (from, to) = (cpus(from.0), cpus(to.0));
            self.screen.mention(format!(
                "{after}  {:<13} {verb} {from:.2} -> {to:.2} cpus: {reason}",
                record.workload
            ));
        }
        let What::LimitsMoved { verb, reason, from, to, current, wake_to_write_us, .. } = &record.what else {
            return;
        };
        // A shrink waits on a lane of its own: nobody waits for it.
        let time = if *verb == Verb::Grow { format!(", {wake_to_write_us} us") } else { String::new() };
        let after = self.after(record);
        self.screen.mention(format!(
            "{after}  {:<13} {verb} {} -> {} at {} used{time}: {reason}",
            record.workload,
            plain(from.high),
            mib(to.high),
            plain(*current),
        ));
    }

    /// When that was.
    fn after(&self, record: &Record) -> String {
        let after_ms = record.unix_ns.saturating_sub(self.start_unix_ns) / 1_000_000;
        format!("{:>6.1} s", after_ms as f64 / 1000.0)
    }

    /// Draws, if it is time to; `work` says for each tenant what it has done.
    pub(crate) fn tick(&mut self, watch: &Watch, work: impl Fn() -> Vec<String>) -> Result<()> {
        if Instant::now() < self.next {
            return Ok(());
        }
        let kills = watch.kills()?;
        self.draw(watch, &work(), kills);
        let period = if self.screen.is_terminal() { DRAW_PERIOD } else { LINE_PERIOD };
        self.next = Instant::now() + period;
        Ok(())
    }

    /// Draws for the last time, and leaves that standing.
    pub(crate) fn end(mut self, watch: &Watch, work: &[String]) -> Result<()> {
        self.draw(watch, work, watch.kills()?);
        self.screen.leave();
        Ok(())
    }

    fn draw(&mut self, watch: &Watch, work: &[String], kills: u64) {
        if self.screen.is_terminal() {
            let lines = self.block(watch, work, kills);
            self.screen.draw(&lines);
        } else {
            let line = self.line(watch, work, kills);
            self.screen.say(&line);
        }
    }

    fn block(&self, watch: &Watch, work: &[String], kills: u64) -> Vec<String> {
        let (used, granted) = watch.sums();
        let granted = granted.map_or_else(String::new, |granted| format!(", granted {}", mib(granted)));
        let kills = match kills {
            0 => self.screen.paint(Style::Green, "0 OOM kills"),
            kills => self.screen.paint(Style::Red, &format!("{kills} OOM kills")),
        };
        let mut lines = vec![
            String::new(),
            format!(
                "  {}, {}: used {}{granted} of {BUDGET}; {kills}",
                clock(self.now()),
                self.way,
                mib(used)
            ),
            self.screen.paint(
                Style::Dim,
                &format!(
                    "  {:<13} {:<8} {:<width$}  {:>4} {:>5}  {:>11}  work",
                    "tenant",
                    "class",
                    format!("used, limit; of {SCALE}"),
                    "MiB",
                    "limit",
                    "cpu / quota",
                    width = CELLS
                ),
            ),
        ];
        for ((tenant, seat), work) in TENANTS.iter().zip(watch.seats()).zip(work) {
            let work = if work == "killed" { self.screen.paint(Style::Red, work) } else { work.clone() };
            lines.push(format!(
                "  {:<13} {:<8} {}  {}  {work}",
                tenant.path(),
                tenant.class.as_str(),
                self.bar(seat),
                figures(seat)
            ));
        }
        lines
    }

    fn bar(&self, seat: &Seat) -> String {
        let Some(look) = seat.look else { return " ".repeat(CELLS) };
        let (full, open, free) = cells(look.used, look.granted);
        let style = if look.used >= look.granted.scale(NEAR) { Style::Yellow } else { Style::Green };
        format!(
            "{}{}{}",
            self.screen.paint(style, &"█".repeat(full)),
            "░".repeat(open),
            self.screen.paint(Style::Dim, &"·".repeat(free))
        )
    }

    /// A row of the plain table: used and granted of each, MiB, then what was done.
    fn line(&self, watch: &Watch, work: &[String], kills: u64) -> String {
        let seats = watch.seats().iter().map(|seat| match seat.look {
            Some(look) => format!("{}/{}", plain(look.used), plain(look.granted)),
            None => "-".to_owned(),
        });
        let line = format!("{:>6.1} s{}", self.now(), cells_of(seats));
        let [redis, web, pack, ..] = work else { return line };
        format!("{line}  {redis:>9}  {web:>8}  {pack:>14}  {kills:>5}")
    }
}

/// Says which way comes now.
pub(crate) fn say_title(screen: &mut Screen, way: Way) {
    let number = Way::ALL.iter().position(|&other| other == way).map_or(0, |at| at + 1);
    let title = format!("\n{number}/{}  {}", Way::ALL.len(), way.describe());
    let title = screen.paint(Style::Bold, &title);
    screen.say(&title);
}

/// The head of the plain table.
fn say_head(screen: &mut Screen) {
    if !screen.is_terminal() {
        let name =
            |tenant: &Tenant| if tenant.name == "report" { tenant.owner } else { tenant.name }.to_owned();
        let head = format!("{:>8}{}", "", cells_of(TENANTS.iter().map(name)));
        screen.say(&format!("{head}  {:>9}  {:>8}  {:>14}  {:>5}", "redis", "web", "archive", "kills"));
    }
}

fn cells_of(texts: impl Iterator<Item = String>) -> String {
    texts.map(|text| format!("  {text:>8}")).collect::<Vec<_>>().concat()
}

/// How far the work is.
fn clock(now: f64) -> String {
    let over = now - LENGTH as f64;
    if over < 0.0 {
        format!("{now:.1} of {LENGTH} s")
    } else {
        format!("{LENGTH} s, and {over:.1} s to finish")
    }
}

/// A size in MiB, or `max`.
pub(crate) fn mib(bytes: Bytes) -> String {
    if bytes.0 == u64::MAX { "max".to_owned() } else { format!("{} MiB", plain(bytes)) }
}

fn plain(bytes: Bytes) -> String {
    if bytes.0 == u64::MAX {
        return "max".to_owned();
    }
    ((bytes.0 + Bytes::MIB.0 / 2) / Bytes::MIB.0).to_string()
}

fn figures(seat: &Seat) -> String {
    let Some(look) = seat.look else { return format!("{:>4} {:>5}  {:>11}", "-", "-", "-") };
    let quota = look.quota.map_or_else(|| "max".to_owned(), |quota| format!("{:.2}", cpus(quota.0)));
    format!("{:>4} {:>5}  {:>4.2} / {quota:>4}", plain(look.used), plain(look.granted), cpus(seat.cpu.0))
}

fn cpus(millionths: u64) -> f64 {
    millionths as f64 / 1e6
}

/// Cells that are used, granted beyond that, and neither. What is unlimited has no limit to show.
fn cells(used: Bytes, granted: Bytes) -> (usize, usize, usize) {
    let cell =
        |bytes: Bytes| usize::try_from((bytes.0.min(SCALE.0) * CELLS as u64).div_ceil(SCALE.0)).unwrap_or(0);
    let full = cell(used);
    let open = if granted.0 == u64::MAX { 0 } else { cell(granted).saturating_sub(full) };
    (full, open, CELLS - full - open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_wide_as_their_cells() {
        let mib = Bytes::mib;
        assert_eq!(cells(mib(0), mib(0)), (0, 0, 24));
        assert_eq!(cells(mib(108), mib(216)), (12, 12, 0));
        assert_eq!(cells(mib(1), mib(27)), (1, 2, 21));
        assert_eq!(cells(mib(400), Bytes(u64::MAX)), (24, 0, 0));
        assert_eq!(cells(mib(72), Bytes(u64::MAX)), (8, 0, 16));
        assert_eq!(cells(mib(72), mib(40)), (8, 0, 16), "use may stand above the limit");
    }

    #[test]
    fn sizes_are_rounded() {
        assert_eq!(mib(Bytes((3 << 20) + (1 << 19))), "4 MiB");
        assert_eq!(mib(Bytes(u64::MAX)), "max");
    }
}
