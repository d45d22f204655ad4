//! Limit against use, as a picture: an SVG of its own, without script, font or style from elsewhere. At the top the sums of all
//! workloads, then each of those that moved most. By hand, since what is needed of a plotting library are three paths.

use std::fmt::Write;

use bellows_policies::Bytes;
use bellows_simulator::{Outcome, Point, Story};

/// Workloads that get a panel.
const PANELS: usize = 12;
/// Points across a panel: more than one for a pixel only make the file larger.
const ACROSS: usize = 800;
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 90.0;
const TOP: f64 = 26.0;
const GAP: f64 = 50.0;

/// What is drawn of an instant, bytes.
#[derive(Clone, Copy, Default)]
struct Sums {
    at: u64,
    used: u64,
    wanted: u64,
    granted: u64,
}

/// One of them.
type Of = fn(&Sums) -> u64;

/// The picture of an outcome.
#[must_use]
pub fn plot(outcome: &Outcome, title: &str) -> String {
    let mut most: Vec<&Story> = outcome.stories.iter().filter(|story| !story.points.is_empty()).collect();
    most.sort_by_key(|story| std::cmp::Reverse(moves(&story.points)));
    most.truncate(PANELS);
    let seconds = outcome.report.seconds.max(1);
    let height = (HEIGHT + GAP) * (most.len() + 1) as f64 + GAP;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{height}\" viewBox=\"0 0 {w} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        w = LEFT + WIDTH + 20.0
    );
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"18\" font-size=\"14\">{}</text>\n\
         <text x=\"{}\" y=\"18\" text-anchor=\"end\"><tspan fill=\"#9ecae1\">wanted</tspan> \
         <tspan fill=\"#08519c\">used</tspan> <tspan fill=\"#d94801\">limit (memory.high)</tspan></text>",
        escaped(title),
        LEFT + WIDTH
    );
    let sums = sums(&outcome.stories, seconds);
    panel(&mut svg, "all workloads", &sums, seconds, TOP + 14.0);
    for (index, story) in most.iter().enumerate() {
        let points: Vec<Sums> = story.points.iter().map(Sums::from).collect();
        let name = format!("{} ({}), {} kills", story.name, story.class, story.kills);
        panel(&mut svg, &name, &points, seconds, TOP + 14.0 + (HEIGHT + GAP) * (index + 1) as f64);
    }
    svg.push_str("</svg>\n");
    svg
}

fn moves(points: &[Point]) -> usize {
    points.windows(2).filter(|pair| pair[0].high != pair[1].high).count()
}

impl From<&Point> for Sums {
    fn from(point: &Point) -> Self {
        Self { at: point.at, used: point.current.0, wanted: point.want.0, granted: point.granted() }
    }
}

/// The sums of all workloads, second by second.
fn sums(stories: &[Story], seconds: u64) -> Vec<Sums> {
    let second = |at: u64| usize::try_from(at / 1_000_000_000).unwrap_or_default();
    let count = usize::try_from(seconds).unwrap_or_default() + 1;
    let mut sums: Vec<Sums> =
        (0..count as u64).map(|at| Sums { at: at * 1_000_000_000, ..Sums::default() }).collect();
    for point in stories.iter().flat_map(|story| &story.points) {
        if let Some(sum) = sums.get_mut(second(point.at)) {
            sum.used = sum.used.saturating_add(point.current.0);
            sum.wanted = sum.wanted.saturating_add(point.want.0);
            sum.granted = sum.granted.saturating_add(point.granted());
        }
    }
    // Nothing was written down at the very beginning.
    sums.remove(0);
    sums
}

fn panel(svg: &mut String, name: &str, points: &[Sums], seconds: u64, top: f64) {
    let most = points.iter().map(|sum| sum.used.max(sum.wanted).max(sum.granted)).max().unwrap_or(1).max(1);
    let x = |at: u64| LEFT + WIDTH * at as f64 / 1e9 / seconds as f64;
    let y = |bytes: u64| top + HEIGHT - HEIGHT * bytes as f64 / most as f64;
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{}\">{}</text>\n<rect x=\"{LEFT}\" y=\"{top}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         fill=\"none\" stroke=\"#cccccc\"/>",
        top - 5.0,
        escaped(name)
    );
    for share in [0, 1, 2] {
        let bytes = most / 2 * share;
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            y(bytes) + 4.0,
            Bytes(bytes)
        );
        let at = seconds / 2 * share;
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{at} s</text>",
            x(at * 1_000_000_000),
            top + HEIGHT + 14.0
        );
    }
    let of_each: [Of; 3] = [|sum| sum.wanted, |sum| sum.used, |sum| sum.granted];
    for (colour, of) in ["#9ecae1", "#08519c", "#d94801"].into_iter().zip(of_each) {
        let path = path(points, |sum| (x(sum.at), y(of(sum))));
        let _ = writeln!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.2\"/>");
    }
}

/// A line through the points, interrupted where a workload did not run; the highest of those that share a place across.
fn path(points: &[Sums], place: impl Fn(&Sums) -> (f64, f64)) -> String {
    let (mut text, mut before) = (String::new(), None);
    for chunk in points.chunks(points.len().div_ceil(ACROSS).max(1)) {
        let Some((x, y)) = chunk.iter().map(&place).min_by(|a, b| a.1.total_cmp(&b.1)) else { continue };
        let apart = before.is_none_or(|before| chunk[0].at > before + 2_500_000_000);
        let _ = write!(text, "{}{x:.1} {y:.1}", if apart { 'M' } else { 'L' });
        before = chunk.last().map(|sum| sum.at);
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_interrupted_where_nothing_ran() {
        let sum = |second: u64, used| Sums { at: second * 1_000_000_000, used, ..Sums::default() };
        let points = [sum(1, 1), sum(2, 2), sum(9, 3)];
        let text = path(&points, |sum| (sum.at as f64 / 1e9, sum.used as f64));
        assert_eq!(text, "M1.0 1.0L2.0 2.0M9.0 3.0");
        assert_eq!(escaped("a<b>&c"), "a&lt;b&gt;&amp;c");
    }
}
