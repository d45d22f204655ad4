//! What `bellows top` shows: the workloads of the last answer, which of them, in which order, and what is asked about one. Pure:
//! answers and keys go in, a state to draw comes out, and now and then something to do.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};

use bellows_policies::units::Bytes;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::columns;
use crate::api::NodeView;
use crate::api::types::WorkloadView;

/// Answers that are kept of each workload, for the curves.
pub(super) const KEPT: usize = 120;

/// Which workload.
pub(super) type Id = (String, String);

/// One answer of the agent.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) node: NodeView,
    pub(super) workloads: Vec<WorkloadView>,
    /// When it came, seconds of any clock that does not jump.
    pub(super) at: f64,
}

/// One answer about one workload, for its curves.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Point {
    pub(super) used: Bytes,
    pub(super) granted: Bytes,
    /// Cpus used since the answer before.
    pub(super) cpus: f64,
}

/// What the past of a workload is.
#[derive(Debug, Default)]
struct Past {
    points: VecDeque<Point>,
    /// Cpu time used, microseconds, and when it was asked.
    cpu: (u64, f64),
}

/// What rows are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Used,
    Granted,
    Cpu,
    Moves,
    Name,
}

impl Sort {
    pub(super) const ALL: [Self; 5] = [Self::Used, Self::Granted, Self::Cpu, Self::Moves, Self::Name];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Used => "used",
            Self::Granted => "granted",
            Self::Cpu => "cpu",
            Self::Moves => "moves",
            Self::Name => "name",
        }
    }

    /// The key that chooses it.
    pub(super) const fn key(self) -> char {
        match self {
            Self::Used => 'u',
            Self::Granted => 'g',
            Self::Cpu => 'c',
            Self::Moves => 'm',
            Self::Name => 'n',
        }
    }
}

/// What is done about a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Freeze,
    Thaw,
    Kill,
}

impl Act {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Freeze => "freeze",
            Self::Thaw => "thaw",
            Self::Kill => "kill",
        }
    }
}

/// What the keys are for, just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    Table,
    /// The filter is written.
    Filter,
    /// One workload, with the lines of its explanation, and how far they are scrolled.
    Detail {
        of: Id,
        lines: Vec<String>,
        scrolled: u16,
    },
    /// Is it meant so?
    Confirm {
        act: Act,
        of: Id,
    },
    Help,
}

/// What is to be done outside of here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Quit,
    /// Ask how a workload fares.
    Explain(Id),
    Do(Act, Id),
}

/// All of it.
#[derive(Debug)]
pub(super) struct Top {
    pub(super) node: Option<NodeView>,
    workloads: Vec<WorkloadView>,
    past: HashMap<Id, Past>,
    /// Indices of the workloads that are shown, in order.
    shown: Vec<usize>,
    pub(super) selected: usize,
    /// The first row on the screen, and how many there are.
    pub(super) first: usize,
    pub(super) height: usize,
    pub(super) sort: Sort,
    pub(super) is_reversed: bool,
    pub(super) filter: String,
    pub(super) mode: Mode,
    /// What was done last, or what went wrong with it.
    pub(super) message: Option<String>,
    /// Why there is no newer answer.
    pub(super) error: Option<String>,
}

impl Top {
    pub(super) fn new(filter: String) -> Self {
        Self {
            node: None,
            workloads: Vec::new(),
            past: HashMap::new(),
            shown: Vec::new(),
            selected: 0,
            first: 0,
            height: 1,
            sort: Sort::Used,
            is_reversed: false,
            filter,
            mode: Mode::Table,
            message: None,
            error: None,
        }
    }

    /// Takes in an answer.
    pub(super) fn take(&mut self, snapshot: Snapshot) {
        let Snapshot { node, workloads, at } = snapshot;
        let mut past = std::mem::take(&mut self.past);
        for workload in &workloads {
            let id = id(workload);
            let mut old = past.remove(&id).unwrap_or_default();
            let (before, asked) = old.cpu;
            let seconds = at - asked;
            let used_us = workload.cpu_usage_us.saturating_sub(before);
            let cpus =
                if old.points.is_empty() || seconds <= 0.0 { 0.0 } else { used_us as f64 / 1e6 / seconds };
            old.cpu = (workload.cpu_usage_us, at);
            if old.points.len() == KEPT {
                old.points.pop_front();
            }
            let granted = workload.memory_high.or(workload.memory_max).unwrap_or_default();
            old.points.push_back(Point { used: workload.memory_current, granted, cpus });
            // Who is not among them has ended.
            self.past.insert(id, old);
        }
        let selected = self.selected().map(id);
        self.workloads = workloads;
        self.node = Some(node);
        self.error = None;
        self.arrange(selected);
    }

    /// The workloads that are shown, in order.
    pub(super) fn rows(&self) -> impl Iterator<Item = &WorkloadView> {
        self.shown.iter().filter_map(|&index| self.workloads.get(index))
    }

    /// How many are shown, and how many there are.
    pub(super) const fn counts(&self) -> (usize, usize) {
        (self.shown.len(), self.workloads.len())
    }

    /// Which one is selected.
    pub(super) fn selected(&self) -> Option<&WorkloadView> {
        self.shown.get(self.selected).and_then(|&index| self.workloads.get(index))
    }

    /// The one of this name.
    pub(super) fn of(&self, id: &Id) -> Option<&WorkloadView> {
        self.workloads.iter().find(|w| (&w.tenant, &w.name) == (&id.0, &id.1))
    }

    /// Its past, the oldest first.
    pub(super) fn points(&self, id: &Id) -> impl DoubleEndedIterator<Item = Point> {
        self.past.get(id).into_iter().flat_map(|past| past.points.iter().copied())
    }

    /// Cpus that it used lately. None without a quota: then the agent looks at it for scrapes alone.
    pub(super) fn cpus(&self, workload: &WorkloadView) -> Option<f64> {
        let point = || self.points(&id(workload)).next_back().map_or(0.0, |point| point.cpus);
        (workload.cpu.is_some() || workload.cpu_quota.is_some()).then(point)
    }

    /// Filters and sorts anew; the same workload stays selected, wherever it is by now.
    fn arrange(&mut self, selected: Option<Id>) {
        let wanted = self.filter.to_lowercase();
        let is_shown = |w: &WorkloadView| {
            let (name, state) = (format!("{}/{}", w.tenant, w.name), columns::state(w));
            let texts = [&name, &w.class, &w.state, state, &w.mode].map(str::to_lowercase);
            wanted.split_whitespace().all(|word| texts.iter().any(|text| text.contains(word)))
        };
        let mut shown: Vec<(f64, usize)> = (0..self.workloads.len())
            .filter(|&index| is_shown(&self.workloads[index]))
            .map(|index| (self.weight(&self.workloads[index]), index))
            .collect();
        let name = |index: usize| (&self.workloads[index].tenant, &self.workloads[index].name);
        shown.sort_by(|(a, left), (b, right)| {
            let order =
                b.partial_cmp(a).unwrap_or(Ordering::Equal).then_with(|| name(*left).cmp(&name(*right)));
            if self.is_reversed { order.reverse() } else { order }
        });
        self.shown = shown.into_iter().map(|(_, index)| index).collect();
        let place = selected.and_then(|id| {
            let is_it = |w: &WorkloadView| (&w.tenant, &w.name) == (&id.0, &id.1);
            self.shown.iter().position(|&index| is_it(&self.workloads[index]))
        });
        self.select(place.unwrap_or(self.selected));
    }

    fn weight(&self, workload: &WorkloadView) -> f64 {
        match self.sort {
            Sort::Used => workload.memory_current.0 as f64,
            Sort::Granted => workload.memory_high.or(workload.memory_max).unwrap_or_default().0 as f64,
            Sort::Cpu => self.cpus(workload).unwrap_or(0.0),
            Sort::Moves => (workload.limit_moves + workload.quota_moves + workload.would_moves) as f64,
            Sort::Name => 0.0,
        }
    }

    /// Selects a row, and scrolls as little as that takes.
    fn select(&mut self, row: usize) {
        self.selected = row.min(self.shown.len().saturating_sub(1));
        let height = self.height.max(1);
        let last = self.shown.len().saturating_sub(height);
        self.first = self.first.clamp(self.selected.saturating_sub(height - 1), self.selected).min(last);
    }

    /// The screen has room for so many rows.
    pub(super) fn resize(&mut self, height: usize) {
        self.height = height;
        self.select(self.selected);
    }

    /// Takes in a key; what is to be done then.
    pub(super) fn press(&mut self, key: KeyEvent) -> Option<Wish> {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Some(Wish::Quit);
        }
        match std::mem::replace(&mut self.mode, Mode::Table) {
            Mode::Table => return self.press_in_table(key.code),
            Mode::Filter => self.press_in_filter(key.code),
            Mode::Confirm { act, of } => {
                if matches!(key.code, KeyCode::Char('y' | 'Y')) {
                    return Some(Wish::Do(act, of));
                }
                self.message = Some("nothing was done".to_owned());
            }
            Mode::Detail { of, lines, scrolled } => {
                return self.press_in_detail(key.code, of, lines, scrolled);
            }
            // Any key closes it.
            Mode::Help => {}
        }
        None
    }

    fn press_in_table(&mut self, code: KeyCode) -> Option<Wish> {
        self.message = None;
        let page = self.height.saturating_sub(1).max(1);
        match code {
            KeyCode::Char('q') | KeyCode::Esc if self.filter.is_empty() || code == KeyCode::Char('q') => {
                return Some(Wish::Quit);
            }
            KeyCode::Esc => {
                self.filter.clear();
                self.arrange(self.selected().map(id));
            }
            KeyCode::Up | KeyCode::Char('k') => self.select(self.selected.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.select(self.selected + 1),
            KeyCode::PageUp => self.select(self.selected.saturating_sub(page)),
            KeyCode::PageDown => self.select(self.selected + page),
            KeyCode::Home => self.select(0),
            KeyCode::End => self.select(usize::MAX),
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Char('r') => {
                self.is_reversed = !self.is_reversed;
                self.arrange(self.selected().map(id));
            }
            KeyCode::Enter => {
                let of = self.selected().map(id)?;
                self.mode = Mode::Detail { of: of.clone(), lines: Vec::new(), scrolled: 0 };
                return Some(Wish::Explain(of));
            }
            KeyCode::Char(key) => return self.press_letter(key),
            _ => {}
        }
        None
    }

    fn press_letter(&mut self, key: char) -> Option<Wish> {
        if let Some(sort) = Sort::ALL.into_iter().find(|sort| sort.key() == key) {
            self.sort = sort;
            self.arrange(self.selected().map(id));
            return None;
        }
        let act = match key {
            'f' => Act::Freeze,
            't' => Act::Thaw,
            'K' => Act::Kill,
            _ => return None,
        };
        let of = self.selected().map(id)?;
        if act == Act::Thaw {
            return Some(Wish::Do(act, of));
        }
        self.mode = Mode::Confirm { act, of };
        None
    }

    fn press_in_filter(&mut self, code: KeyCode) {
        self.mode = Mode::Filter;
        match code {
            KeyCode::Enter => self.mode = Mode::Table,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::Table;
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(letter) => self.filter.push(letter),
            _ => {}
        }
        self.arrange(self.selected().map(id));
    }

    fn press_in_detail(&mut self, code: KeyCode, of: Id, lines: Vec<String>, scrolled: u16) -> Option<Wish> {
        let most = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_sub(1);
        let scrolled = match code {
            KeyCode::Char('q') | KeyCode::Esc | KeyCode::Enter | KeyCode::Left => return None,
            KeyCode::Up | KeyCode::Char('k') => scrolled.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => scrolled.saturating_add(1).min(most),
            KeyCode::PageUp => scrolled.saturating_sub(10),
            KeyCode::PageDown => scrolled.saturating_add(10).min(most),
            _ => scrolled,
        };
        self.mode = Mode::Detail { of, lines, scrolled };
        None
    }

    /// Takes in how a workload fares, if that is still asked.
    pub(super) fn explain(&mut self, id: &Id, text: &str) {
        if let Mode::Detail { of, lines, .. } = &mut self.mode
            && of == id
        {
            *lines = text.lines().map(str::to_owned).collect();
        }
    }
}

/// Who it is.
pub(super) fn id(workload: &WorkloadView) -> Id {
    (workload.tenant.clone(), workload.name.clone())
}
