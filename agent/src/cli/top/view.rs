//! What it looks like: a bar of the budget, the table, one workload's curves, and a line of keys. Draws a state, and changes nothing of
//! it but how many rows there is room for.

use std::fmt::Write;

use bellows_policies::units::Bytes;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Sparkline, Wrap};

use super::columns::{Column, cells_of, cut, short, titles};
use super::state::{Act, Id, Mode, Sort, Top};
use crate::api::NodeView;
use crate::api::types::WorkloadView;

const KEYS: &str = "enter explain  / filter  u g c m n sort  r reverse  f t K act  ? help  q quit";

const HELP: &str = "\
up down j k    another workload; page up, page down, home, end
enter          how it fares, and why; esc goes back
/              only those with these words in name, class, state, mode
u g c m n      by use, grant, cpu, moves, name;  r  the other way round
f  t  K        freeze, thaw, kill
q              leave

[####==|....]  use #, grant =, its end |, up to the ceiling
(192M)         what would be granted: it is observed";

/// Colours, and none where NO_COLOR is set: everything that a colour says is said in words or signs too.
#[derive(Debug, Clone, Copy)]
pub(super) struct Palette {
    pub(super) is_coloured: bool,
}

impl Palette {
    fn of(self, colour: Color) -> Style {
        if self.is_coloured { Style::new().fg(colour) } else { Style::new() }
    }

    fn dim(self) -> Style {
        if self.is_coloured { Style::new().fg(Color::DarkGray) } else { Style::new() }
    }
}

/// Draws everything.
pub(super) fn draw(frame: &mut Frame, top: &mut Top, palette: Palette) {
    let areas = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .split(frame.area());
    let [head, budget, titles, body, foot] = [0, 1, 2, 3, 4].map(|index| areas[index]);
    top.resize(usize::from(body.height));
    frame.render_widget(Paragraph::new(heading(top)), head);
    if let Some(node) = &top.node {
        frame.render_widget(Paragraph::new(budget_bar(node, usize::from(budget.width), palette)), budget);
    }
    if let Mode::Detail { of, lines, scrolled } = &top.mode {
        let area = Rect { y: titles.y, height: titles.height + body.height, ..body };
        detail(frame, area, top, of, lines, *scrolled, palette);
    } else {
        table(frame, titles, body, top, palette);
    }
    frame.render_widget(Paragraph::new(footer(top, palette)), foot);
    match &top.mode {
        Mode::Help => window(frame, " keys ", HELP),
        Mode::Confirm { act, of: (tenant, name) } => {
            let what = match act {
                Act::Freeze => "freeze: it stands still until it is thawed",
                Act::Thaw => "thaw: it runs again",
                Act::Kill => "kill: everything in it ends at once",
            };
            window(
                frame,
                " sure? ",
                &format!("{tenant}/{name}\n{what}\n\ny does it, any other key does not"),
            );
        }
        Mode::Table | Mode::Filter | Mode::Detail { .. } => {}
    }
}

fn heading(top: &Top) -> String {
    let (shown, all) = top.counts();
    let Some(node) = &top.node else {
        return top.error.clone().unwrap_or_else(|| "waiting for the agent".to_owned());
    };
    let shown = if shown == all { String::new() } else { format!("{shown} shown of ") };
    let order = if top.is_reversed { "rising" } else { "falling" };
    let order = if top.sort == Sort::Name { String::new() } else { format!(", {order}") };
    format!(
        "bellows {}  {shown}{all} workload{}, {} wait for room  by {}{order}  cpu {:.1} of {}",
        node.version,
        if all == 1 { "" } else { "s" },
        node.waiting,
        top.sort.as_str(),
        node.cpus_used,
        node.cpus,
    )
}

/// Use, grants and the reserve, of the whole capacity.
fn budget_bar(node: &NodeView, width: usize, palette: Palette) -> Line<'static> {
    let text = format!(
        " used {}  granted {}  of {}",
        short(node.used),
        short(node.granted),
        short(Bytes(node.capacity.0.saturating_sub(node.reserve.0)))
    );
    let cells = width.saturating_sub(text.len() + 2).max(4);
    let upto = |bytes| cells_of(bytes, node.capacity, cells);
    let (used, granted) = (upto(node.used), upto(node.granted));
    let kept = cells_of(node.reserve, node.capacity, cells);
    let granted = granted.saturating_sub(used);
    let free = cells.saturating_sub(used + granted + kept);
    Line::from(vec![
        Span::raw("["),
        Span::styled("#".repeat(used), palette.of(Color::Green)),
        Span::styled("=".repeat(granted), palette.of(Color::Cyan)),
        Span::styled(".".repeat(free), palette.dim()),
        Span::styled("x".repeat(kept.min(cells)), palette.dim()),
        Span::raw("]"),
        Span::raw(text),
    ])
}

fn table(frame: &mut Frame, head: Rect, body: Rect, top: &Top, palette: Palette) {
    let (columns, named) = Column::fitting(usize::from(body.width));
    let head_style = Style::new().add_modifier(Modifier::REVERSED);
    frame.render_widget(Paragraph::new(titles(&columns, named)).style(head_style), head);
    let rows = top.rows().enumerate().skip(top.first).take(usize::from(body.height));
    let lines: Vec<Line> = rows
        .map(|(index, workload)| {
            let line = row(top, workload, &columns, named, palette);
            if index == top.selected { line.style(head_style) } else { line }
        })
        .collect();
    if !lines.is_empty() || top.node.is_none() {
        frame.render_widget(Paragraph::new(lines), body);
        return;
    }
    let text = if top.filter.is_empty() {
        "no workloads: start one with `bellows run`".to_owned()
    } else {
        format!("no workload has \"{}\": esc shows all", top.filter)
    };
    frame.render_widget(Paragraph::new(text), body);
}

fn row(
    top: &Top,
    workload: &WorkloadView,
    columns: &[Column],
    named: usize,
    palette: Palette,
) -> Line<'static> {
    let is_full = workload.memory_high.is_some_and(|high| workload.memory_current >= high);
    let band = palette.of(if is_full { Color::Yellow } else { Color::Green });
    let name = cut(&format!("{}/{}", workload.tenant, workload.name), named);
    let mut spans = vec![Span::raw(format!("{name:<named$}"))];
    spans.extend(columns.iter().map(|column| {
        let text = column.pad(&column.value(top, workload));
        if *column == Column::Band { Span::styled(text, band) } else { Span::raw(text) }
    }));
    Line::from(spans)
}

fn detail(
    frame: &mut Frame,
    area: Rect,
    top: &Top,
    of: &Id,
    lines: &[String],
    scrolled: u16,
    palette: Palette,
) {
    let title = format!(" {}/{} ", of.0, of.1);
    let block = Block::bordered().title(title);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [figures, used, granted, text] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(3),
        Constraint::Length(3),
        Constraint::Min(1),
    ])
    .areas(inner);
    let Some(workload) = top.of(of) else {
        frame.render_widget(Paragraph::new("it has ended: esc goes back"), figures);
        return;
    };
    let figure = format!(
        "used {}, granted {}, between {}, cpu {}",
        short(workload.memory_current),
        workload.memory_high.map_or_else(|| "max".to_owned(), short),
        workload.memory,
        top.cpus(workload).map_or_else(|| "by weight".to_owned(), |cpus| format!("{cpus:.2}")),
    );
    frame.render_widget(Paragraph::new(figure), figures);
    let width = usize::from(inner.width.saturating_sub(9));
    let points: Vec<_> = top.points(of).rev().take(width).collect();
    let most = points.iter().map(|point| point.used.max(point.granted).0).max().unwrap_or(1);
    for (area, name, colour, pick) in
        [(used, "use", Color::Green, true), (granted, "granted", Color::Cyan, false)]
    {
        let [label, curve] = Layout::horizontal([Constraint::Length(9), Constraint::Min(1)]).areas(area);
        frame.render_widget(Paragraph::new(name), label);
        let values = points.iter().rev().map(|point| if pick { point.used.0 } else { point.granted.0 });
        let values: Vec<u64> = values.collect();
        frame.render_widget(Sparkline::default().data(&values).max(most).style(palette.of(colour)), curve);
    }
    let text_lines: Vec<Line> = lines.iter().map(|line| Line::raw(line.clone())).collect();
    frame.render_widget(Paragraph::new(text_lines).wrap(Wrap { trim: false }).scroll((scrolled, 0)), text);
}

fn footer(top: &Top, palette: Palette) -> Line<'static> {
    if top.mode == Mode::Filter {
        return Line::raw(format!("filter: {}_   enter keeps it, esc shows all", top.filter));
    }
    if let Some(error) = &top.error {
        return Line::styled(format!("no newer answer: {error}"), palette.of(Color::Red));
    }
    if let Some(message) = &top.message {
        return Line::raw(message.clone());
    }
    if matches!(top.mode, Mode::Detail { .. }) {
        return Line::styled("up and down scroll   esc goes back", palette.dim());
    }
    Line::styled(KEYS, palette.dim())
}

fn window(frame: &mut Frame, title: &'static str, text: &str) {
    let area = frame.area();
    let width = text.lines().map(|line| line.chars().count()).max().unwrap_or(0) + 4;
    let width = u16::try_from(width).unwrap_or(u16::MAX).min(area.width);
    let height = u16::try_from(text.lines().count() + 2).unwrap_or(u16::MAX).min(area.height);
    let at = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    frame.render_widget(Clear, at);
    let block = Block::bordered().title(title);
    frame.render_widget(Paragraph::new(text.to_owned()).wrap(Wrap { trim: false }).block(block), at);
}

/// The same as plain lines.
pub(super) fn plain(top: &Top) -> String {
    let mut text = heading(top);
    if let Some(node) = &top.node {
        let free = short(node.free);
        let (used, granted, capacity) = (short(node.used), short(node.granted), short(node.capacity));
        let _ = write!(text, "\nused {used}, granted {granted}, free {free}, of {capacity}\n");
    }
    let named = top.rows().map(|w| w.tenant.len() + w.name.len() + 1).max().unwrap_or(8).max(8);
    text.push_str(&titles(&Column::ALL, named));
    for workload in top.rows() {
        let line = row(top, workload, &Column::ALL, named, Palette { is_coloured: false });
        text.push('\n');
        text.extend(line.spans.iter().map(|span| span.content.as_ref()));
    }
    text.push('\n');
    text
}
