//! Policy files: what is wrong with them is told as people can use it, presets hold, and no text whatever breaks the reader.

use std::path::Path;

use bellows::policy::{Compiled, Node, Source, compile, read, show_all};
use bellows_policies::Bytes;
use proptest::prelude::*;

fn compiled(files: &[(&str, &str)], capacity: Option<Bytes>) -> Compiled {
    let source = |(name, text): &(&str, &str)| Source { name: (*name).to_owned(), text: (*text).to_owned() };
    compile(files.iter().map(source).collect(), Vec::new(), Node { given: capacity, ..Node::default() })
}

fn told(compiled: &Compiled) -> String {
    compiled.diagnostics.iter().map(|d| d.render(&compiled.sources) + "\n").collect()
}

fn presets() -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/presets");
    let (sources, troubles) = read(&[directory]);
    assert!(troubles.is_empty() && sources.len() == 4);
    sources.into_iter().map(|s| (s.name.rsplit('/').next().unwrap_or_default().to_owned(), s.text)).collect()
}

/// One mistake of each kind. The snapshots are a user interface: read them as a user would.
#[test]
fn mistakes_are_told_as_a_compiler_does() {
    let one: &[(&str, &str)] = &[
        ("syntax", "[class.web]\nweight = = 3\npids = 12\n[class.db\npids = 3\n"),
        ("duplicate_class", "[class.web]\npids = 12\n[class.web]\nweight = 3\n"),
        ("unknown_section", "[clas.web]\npids = 12\n"),
        ("unknown_key", "[class.web]\nmemory.cieling = \"1G\"\nceiling = \"1G\"\nbogus = 1\n"),
        ("wrong_type", "[class.web]\npids = \"many\"\nmemory = 5\nsqueeze.rungs = [1, 2]\n"),
        ("wrong_unit", "[class.web]\n\tmemory.floor = \"64Q\" # tabs before\ncpu.ceiling = \"2 cpus\"\n"),
        (
            "out_of_range",
            "[class.web]\nweight = 20000\nmemory.step_factor = -0.5\nmemory.stall_ms = 0\nmemory.floor = 100\n",
        ),
        (
            "unknown_choice",
            "[class.web]\nmode = \"enforced\"\nsqueeze.rungs = [\"slack\", \"freez\"]\ncpu.law = \"weight\"\n",
        ),
        (
            "floor_above_ceiling",
            "[class.web]\nmemory = { floor = \"2G\", ceiling = \"1G\" }\ncpu = { floor = 2, ceiling = 1.5 }\n",
        ),
        ("law_out_of_order", "[class.web]\nmemory.slack_hold_ms = 700_000\ncpu.look_first_ms = 5000\n"),
        ("unknown_base", "[class.web]\ninherits = \"latncy\"\n"),
        ("inheritance_of_built_in", "[class.batch]\ninherits = \"latency\"\n"),
        (
            "cycle",
            "[class.a]\ninherits = \"b\"\n[class.b]\ninherits = \"c\"\n[class.c]\ninherits = \"a\"\n[class.d]\ninherits = \"a\"\n",
        ),
        ("unknown_class_in_rule", "[class.web]\n[[rule]]\nclass = \"wbe\"\n[[rule]]\ntenant = \"x\"\n"),
        (
            "unreachable_rules",
            "[[rule]]\ntenant = \"acme\"\nworkload = \"web-*\"\nclass = \"batch\"\n\n[[rule]]\ntenant = \"acme\"\nworkload = \"web-1\"\nclass = \"latency\"\n\n[[rule]]\nclass = \"standard\"\n\n[[rule]]\nworkload = \"x\"\nclass = \"batch\"\n",
        ),
        ("bad_name", "[class.\"../x\"]\n"),
        ("bad_io_max", "[class.web]\nio.max = [\"sda rbps=5\"]\n"),
        ("tenant_above_cap", "[tenant.acme]\nmemory.guarantee = \"2G\"\nmemory.cap = \"1G\"\n"),
        ("unknown_class_of_tenant", "[class.web]\n[tenant.acme]\nclass = \"wbe\"\n"),
        ("number_too_large", "[class.web]\npids = 99999999999999999999\n"),
        ("empty_pattern", "[[rule]]\ntenant = \"\"\nclass = \"batch\"\n"),
    ];
    for (name, text) in one {
        let found = compiled(&[("web.toml", text)], None);
        assert!(!found.diagnostics.is_empty(), "{name}");
        insta::assert_snapshot!(*name, told(&found));
    }
}

/// What is wrong between keys of sound sections is told beside what is wrong in others, and nothing is concluded from those.
#[test]
fn a_mistake_in_one_section_hides_none_of_another() {
    let text = "[class.odd]\nmemory.ceilin = \"4G\"\nmemory.floor = \"2G\"\nmemory.ceiling = \"1G\"\n\
                [class.heir]\ninherits = \"odd\"\nmemory.ceiling = \"1M\"\n\
                [class.bad]\nmemory.floor = \"2G\"\nmemory.ceiling = \"1G\"\n\
                [[rule]]\nclas = \"bad\"\n[[rule]]\ntenant = \"a\"\nclass = \"bda\"\n";
    let found = compiled(&[("web.toml", text)], None);
    insta::assert_snapshot!("of_sound_sections", told(&found));
    let text = "[clas.web]\npids = 7\n[[rule]]\nclass = \"web\"\n[class.bad]\nmemory = { floor = \"2G\", ceiling = \"1G\" }\n";
    insta::assert_snapshot!("of_missing_sections", told(&compiled(&[("web.toml", text)], None)));
}

#[test]
fn mistakes_between_files_name_both_places() {
    let base = ("10-base.toml", "[class.base]\nmemory.ceiling = \"1G\"\ncpu.floor = 1\n");
    let heir =
        ("20-heir.toml", "[class.heir]\ninherits = \"base\"\nmemory.floor = \"2G\"\ncpu.ceiling = 0.5\n");
    let found = compiled(&[base, heir], None);
    assert_eq!(found.problems(), 2);
    insta::assert_snapshot!("inherited_ceiling", told(&found));
    // The later file overrides the key, and all is well.
    let repaired = ("30-more.toml", "[class.base]\nmemory.ceiling = \"4G\"\n[class.heir]\ncpu.ceiling = 2\n");
    let found = compiled(&[base, heir, repaired], None);
    assert_eq!(found.problems(), 0, "{}", told(&found));
}

#[test]
fn promises_are_checked_where_the_capacity_is_known() {
    let text = "[node]\nreserve = \"20%\"\n[tenant.a]\nmemory.guarantee = \"50%\"\n[tenant.b]\nmemory.guarantee = \"400M\"\n\
                [class.huge]\nmemory.floor = \"900M\"\n";
    assert_eq!(compiled(&[("node.toml", text)], None).problems(), 0);
    let found = compiled(&[("node.toml", text)], Some(Bytes::mib(1000)));
    insta::assert_snapshot!("promises", told(&found));
    let whole = compiled(&[("node.toml", "[node]\ncapacity = \"1G\"\nreserve = \"100%\"\n")], None);
    insta::assert_snapshot!("reserve", told(&whole));
}

#[test]
fn presets_hold() {
    for (name, text) in presets() {
        let found = compiled(&[(&name, &text)], Some(Bytes::mib(16 << 10)));
        assert_eq!(found.problems(), 0, "{}", told(&found));
        assert_eq!(compiled(&[("shown.toml", &show_all(&found))], Some(Bytes::mib(16 << 10))).problems(), 0);
    }
}

/// What is inherited, overridden and built in, with its origin.
#[test]
fn what_is_shown_says_where_it_came_from() {
    let files = [
        ("10.toml", "[class.web]\ninherits = \"latency\"\nweight = 300\nmemory.floor = \"50%\"\n"),
        ("20.toml", "[class.shop]\ninherits = \"web\"\n[class.web]\nweight = 200\n"),
    ];
    let found = compiled(&files, None);
    let shown = bellows::policy::show_class(&found, &found.rules.classes["shop"]);
    for line in [
        "inherits = \"web\"",
        "weight = 200",
        "memory.floor = \"50%\"",
        "# memory.ceiling is not set",
        "memory.step_min = \"16MiB\"",
    ] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    let origin =
        |key: &str| shown.lines().find(|l| l.starts_with(key)).and_then(|l| l.split("# ").nth(1)).unwrap();
    assert_eq!(
        (origin("weight"), origin("memory.floor"), origin("pids")),
        ("20.toml:4", "10.toml:4", "built-in")
    );
    assert_eq!(found.rules.classes["shop"].base.as_str(), "latency");
}

/// What a class, a tenant, a rule are, without where they stand.
fn essence(compiled: &Compiled) -> String {
    let mut rules = compiled.rules.clone();
    rules.version.clear();
    for rule in &mut rules.rules {
        rule.origin.clear();
    }
    format!("{rules:?}")
}

#[test]
fn what_is_shown_reads_back_as_the_same() {
    for (name, text) in presets() {
        let found = compiled(&[(&name, &text)], None);
        let shown = show_all(&found);
        let again = compiled(&[("shown.toml", &shown)], None);
        assert_eq!(again.problems(), 0, "{}\n{shown}", told(&again));
        assert_eq!(essence(&found), essence(&again));
    }
}

#[test]
fn the_reference_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policy-reference.md");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == bellows::policy::reference(),
        "docs/policy-reference.md is out of date: bellows policy reference > docs/policy-reference.md"
    );
}

/// Every example of the guide does what the guide says: those that are policies check without an error.
#[test]
fn examples_of_the_guide_are_policies() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policies.md");
    let text = std::fs::read_to_string(path).expect("docs/policies.md");
    let examples: Vec<&str> =
        text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 5);
    for example in &examples {
        let found = compiled(&[("example.toml", example)], Some(Bytes::mib(16 << 10)));
        assert_eq!(found.problems(), 0, "{example}\n{}", told(&found));
    }
}

/// The schema has a property for each field, and the presets' keys are all in it.
#[test]
fn the_schema_knows_every_key() {
    let schema = bellows::policy::schema();
    let object = |section: &str| match section {
        "node" => schema["properties"]["node"].clone(),
        "rule" => schema["properties"]["rule"]["items"].clone(),
        named => {
            let patterns = schema["properties"][named]["patternProperties"].as_object().unwrap();
            patterns.values().next().unwrap().clone()
        }
    };
    let keys = |section: &str| -> Vec<String> {
        match section {
            "node" => bellows_policies::ruleset::Node::fields().into_iter().map(|f| f.key).collect(),
            "rule" => bellows_policies::ruleset::Rule::fields().into_iter().map(|f| f.key).collect(),
            "tenant" => bellows_policies::ruleset::Tenant::fields().into_iter().map(|f| f.key).collect(),
            _ => bellows_policies::ruleset::Class::fields().into_iter().map(|f| f.key).collect(),
        }
    };
    for section in ["node", "rule", "tenant", "class"] {
        for key in keys(section) {
            let mut at = object(section);
            for part in key.split('.') {
                at = at["properties"][part].clone();
            }
            assert!(at["description"].is_string(), "{section} {key}");
        }
    }
}

/// A long chain of heirs, and as many rules as are allowed, take no time and no stack.
#[test]
fn the_bounds_are_bounds() {
    let heir = |n: usize| format!("[class.c{n:03}]\ninherits = \"c{:03}\"\n", n - 1);
    let chain = (1..900).map(heir).collect::<Vec<_>>().concat();
    let found = compiled(&[("chain.toml", &format!("[class.c000]\npids = 7\n{chain}"))], None);
    assert_eq!(found.problems(), 0, "{}", told(&found));
    assert_eq!(found.rules.classes["c899"].pids, 7);
    let rule = |n: usize| format!("[[rule]]\ntenant = \"t{n}\"\nclass = \"batch\"\n");
    let rules = (0..=10_000).map(rule).collect::<Vec<_>>().concat();
    let found = compiled(&[("rules.toml", &rules)], None);
    assert!(told(&found).contains("more than 10000 rules"));
}

/// Presets with some bytes changed, dropped, doubled or swapped: whatever they come to, it is told and does not panic.
#[test]
fn mutated_presets_do_no_harm() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below.max(1) as u64).unwrap()
    };
    let presets = presets();
    for _ in 0..400 {
        let mut bytes = presets[random(presets.len())].1.clone().into_bytes();
        for _ in 0..=random(6) {
            let (at, other) = (random(bytes.len()), random(bytes.len()));
            match random(4) {
                0 => bytes[at] = b"\"[]=.\n#%*{}\\x9-"[random(15)],
                1 => drop(bytes.drain(at..(at + random(20)).min(bytes.len()))),
                2 => bytes.extend_from_within(at..(at + random(80)).min(bytes.len())),
                _ => bytes.swap(at, other),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let found = compiled(&[("mutated.toml", &text)], Some(Bytes::GIB));
        let _ = told(&found);
        if found.problems() == 0 {
            let again = compiled(&[("shown.toml", &show_all(&found))], Some(Bytes::GIB));
            assert_eq!(again.problems(), 0, "{}\n{text}", told(&again));
        }
    }
}

proptest! {
    #[test]
    fn no_text_breaks_the_reader(text in any::<String>(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = String::from_utf8_lossy(&bytes);
        let found = compiled(&[("a.toml", &text), ("b.toml", &bytes)], Some(Bytes::GIB));
        let _ = (told(&found), found.refusal());
    }

    /// Any values within range, in any class, read back from what is shown.
    #[test]
    fn any_sound_class_reads_back(
        weight in 1_u32..=10_000, floor in 1_u64..1 << 30, percent in 1.0_f64..100.0, ratio in 0.0_f64..=1.0,
        cores in 10_u64..100_000, time in 1_u64..=86_400_000,
    ) {
        let text = format!(
            "[class.x]\ninherits = \"batch\"\nweight = {weight}\nmemory.floor = {}\nmemory.ceiling = \"{percent}%\"\n\
             memory.need_share = {ratio:?}\ncpu.floor = \"{cores}m\"\nmemory.calm_ms = {time}\n", floor + (1 << 20));
        let found = compiled(&[("x.toml", &text)], None);
        prop_assert_eq!(found.problems(), 0, "{}", told(&found));
        let again = compiled(&[("shown.toml", &show_all(&found))], None);
        prop_assert_eq!(essence(&found), essence(&again));
    }
}
