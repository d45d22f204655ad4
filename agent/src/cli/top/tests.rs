//! What is shown, for keys and answers; how it looks on a small terminal.

use bellows_policies::units::Bytes;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::json;

use super::columns::short;
use super::state::{Act, Id, Mode, Snapshot, Sort, Top, Wish};
use super::view::{Palette, draw, plain};
use crate::api::NodeView;
use crate::api::types::WorkloadView;

const MIB: u64 = 1 << 20;

fn workload(tenant: &str, name: &str, used: u64, granted: u64, cpu_us: u64) -> WorkloadView {
    serde_json::from_value(json!({
        "tenant": tenant, "name": name, "class": "standard", "mode": "enforce", "state": "running", "pid": 7,
        "memory_current": used * MIB, "memory_high": granted * MIB, "memory_max": (granted + 16) * MIB,
        "memory_need": used * MIB, "memory": { "floor": 32 * MIB, "ceiling": 512 * MIB }, "limit_moves": granted / 8,
        "oom_kills": 0, "cpu_quota": 500_000, "cpu": null, "cpu_usage_us": cpu_us, "quota_moves": 0, "started_unix_ns": 1
    }))
    .expect("a workload")
}

fn node() -> NodeView {
    serde_json::from_value(json!({
        "version": "0.1.0", "root": "bellows.slice", "started_unix_ns": 1, "now_unix_ns": 2,
        "capacity": 1024 * MIB, "reserve": 100 * MIB, "granted": 448 * MIB, "free": 476 * MIB, "used": 300 * MIB,
        "memory_total": 2048 * MIB, "memory_available": 1024 * MIB, "swap_total": 0, "swap_free": 0, "cpus": 2,
        "cpus_used": 0.5, "workloads": 3, "waiting": 1, "loop_idle_ms": 3, "policies_are_current": true,
        "journal_oldest": 1, "journal_newest": 9, "journal_lost": 0, "journal_unwritten": 0
    }))
    .expect("a node")
}

fn three(at: f64, cpu_us: u64) -> Snapshot {
    let workloads = vec![
        workload("shop", "web-1", 120, 160, cpu_us),
        workload("shop", "db", 160, 192, 2 * cpu_us),
        workload("farm", "nightly-report-of-all-shops", 20, 96, 0),
    ];
    Snapshot { node: node(), workloads, at }
}

fn top() -> Top {
    let mut top = Top::new(String::new());
    top.take(three(0.0, 0));
    top.take(three(1.0, 250_000));
    top
}

fn names(top: &Top) -> Vec<&str> {
    top.rows().map(|w| w.name.as_str()).collect()
}

fn press(top: &mut Top, code: KeyCode) -> Option<Wish> {
    top.press(KeyEvent::new(code, KeyModifiers::NONE))
}

fn typed(top: &mut Top, text: &str) {
    for letter in text.chars() {
        assert_eq!(press(top, KeyCode::Char(letter)), None, "{letter}");
    }
}

fn of(tenant: &str, name: &str) -> Id {
    (tenant.to_owned(), name.to_owned())
}

/// The screen, as lines.
fn screen(top: &mut Top, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| draw(frame, top, Palette { is_coloured: false })).expect("drawn");
    terminal.backend().to_string()
}

#[test]
fn sorted_by_each_key_and_turned_round() {
    let mut top = top();
    for (key, expected) in [
        ('u', ["db", "web-1", "nightly-report-of-all-shops"]),
        ('g', ["db", "web-1", "nightly-report-of-all-shops"]),
        ('c', ["db", "web-1", "nightly-report-of-all-shops"]),
        ('n', ["nightly-report-of-all-shops", "db", "web-1"]),
    ] {
        press(&mut top, KeyCode::Char(key));
        assert_eq!(names(&top), expected, "{key}");
    }
    press(&mut top, KeyCode::Char('r'));
    assert_eq!(names(&top), ["web-1", "db", "nightly-report-of-all-shops"]);
    assert_eq!(Sort::ALL.map(Sort::key).len(), 5);
}

#[test]
fn who_is_selected_stays_so_wherever_it_goes() {
    let mut top = top();
    press(&mut top, KeyCode::Down);
    assert_eq!(top.selected().map(|w| w.name.as_str()), Some("web-1"));
    let mut next = three(2.0, 500_000);
    next.workloads[0].memory_current = Bytes(300 * MIB);
    top.take(next);
    assert_eq!((names(&top)[0], top.selected().map(|w| w.name.as_str())), ("web-1", Some("web-1")));
    // It ends: the row goes to another one.
    let mut next = three(3.0, 500_000);
    next.workloads.remove(0);
    top.take(next);
    assert!(top.selected().is_some());
    assert_eq!(top.points(&of("shop", "web-1")).count(), 0, "its past goes with it");
}

#[test]
fn filtered_by_all_words() {
    let mut top = top();
    typed(&mut top, "/shop w");
    assert_eq!((top.mode.clone(), names(&top)), (Mode::Filter, vec!["web-1"]));
    press(&mut top, KeyCode::Enter);
    assert_eq!(names(&top), ["web-1"]);
    assert_eq!(press(&mut top, KeyCode::Esc), None, "shows all first");
    assert_eq!(names(&top).len(), 3);
    assert_eq!(press(&mut top, KeyCode::Esc), Some(Wish::Quit));
}

#[test]
fn nothing_is_done_that_was_not_meant() {
    let mut top = top();
    for (key, act) in [('f', Act::Freeze), ('K', Act::Kill)] {
        typed(&mut top, &key.to_string());
        assert!(matches!(&top.mode, Mode::Confirm { act: asked, .. } if *asked == act));
        assert_eq!(press(&mut top, KeyCode::Enter), None);
        assert_eq!(top.message.as_deref(), Some("nothing was done"));
        typed(&mut top, &key.to_string());
        assert_eq!(press(&mut top, KeyCode::Char('y')), Some(Wish::Do(act, of("shop", "db"))));
    }
    assert_eq!(press(&mut top, KeyCode::Char('t')), Some(Wish::Do(Act::Thaw, of("shop", "db"))));
}

#[test]
fn cpu_is_what_was_used_between_two_answers() {
    let mut top = top();
    let used = |top: &Top, name: &str| top.rows().find(|w| w.name == name).and_then(|w| top.cpus(w));
    assert_eq!((used(&top, "web-1"), used(&top, "db")), (Some(0.25), Some(0.5)));
    // It was started anew: its counter is lower.
    top.take(three(2.0, 0));
    assert_eq!(used(&top, "db"), Some(0.0));
}

#[test]
fn on_a_small_terminal() {
    let mut top = top();
    insta::assert_snapshot!("table", screen(&mut top, 80, 24));
    press(&mut top, KeyCode::Char('?'));
    insta::assert_snapshot!("help", screen(&mut top, 80, 24));
    press(&mut top, KeyCode::Esc);
    assert_eq!(press(&mut top, KeyCode::Enter), Some(Wish::Explain(of("shop", "db"))));
    top.explain(&of("shop", "db"), "shop/db is governed\nmemory.high 192 MiB");
    insta::assert_snapshot!("detail", screen(&mut top, 80, 24));
    press(&mut top, KeyCode::Esc);
    typed(&mut top, "K");
    insta::assert_snapshot!("confirm", screen(&mut top, 80, 24));
    insta::assert_snapshot!("plain", plain(&top));
    for (width, height) in [(20, 4), (1, 1), (400, 100)] {
        screen(&mut top, width, height);
    }
}

#[test]
fn ten_thousand_rows_scroll() {
    let workloads = (0..10_000).map(|n| workload("t", &format!("w{n:05}"), n % 500, 500, 0)).collect();
    let mut top = Top::new(String::new());
    top.take(Snapshot { node: node(), workloads, at: 0.0 });
    press(&mut top, KeyCode::Char('n'));
    screen(&mut top, 80, 24);
    press(&mut top, KeyCode::End);
    let end = screen(&mut top, 80, 24);
    assert!(end.contains("t/w09999") && !end.contains("t/w09979 "), "{end}");
    press(&mut top, KeyCode::Home);
    assert!(screen(&mut top, 80, 24).contains("t/w00000"));
}

#[test]
fn sizes_in_six_characters() {
    for (bytes, text) in [
        (0, "0"),
        (4096, "4.0K"),
        (1 << 20, "1.0M"),
        (1023 << 20, "1023M"),
        (25 << 29, "12G"),
        (3 << 40, "3.0T"),
    ] {
        assert_eq!(short(Bytes(bytes)), text);
    }
}
