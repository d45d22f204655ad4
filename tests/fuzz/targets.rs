//! What is tried: functions that take any bytes, and panic when something is wrong.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::accounts::{User, look_up};
use crate::order::{KINDS, Mount, Order};
use bellows::access::{Access, Api};
use bellows::api::types::{ApplyRequest, ExecRequest, LaunchRequest, PinRequest, SignalRequest, StopRequest};
use bellows::journal::Record;
use bellows::kernel::spawn::{IdRange, told_pid};
use bellows::policy::{self, Node, Source};
use bellows::workload::capability::Capability;
use bellows::workload::change::Change;
use bellows::workload::ids::Pool;
use bellows::workload::isolation::{Isolation, Resource, Root};
use bellows::workload::life::Restart;
use bellows::workload::spec::{Asked, Identity, Name, Spec};
use bellows::workload::unpack::unpack;
use bellows::workload::{records, shelf};
use bellows_policies::ruleset::Defaults;
use bellows_policies::units::{Bounds, Bytes};
use bellows_policies::{Budget, CpuBounds, Cpus, Resources, Ruleset, Workload};

/// What is tried, with the name of its corpus.
pub(crate) type Target = (&'static str, fn(&[u8]));

pub(crate) const TARGETS: &[Target] = &[
    ("archive", archive),
    ("request", request),
    ("workload", workload),
    ("policies", policies),
    ("config", configuration),
    ("order", order),
    ("accounts", accounts),
    ("units", units),
    ("trace", trace),
];

/// The bodies of the API's requests. What is sound is admitted or refused, is understood by init as it was meant, and gives a tenant's
/// caller nothing that it may not have.
fn request(input: &[u8]) {
    let spec = serde_json::from_slice::<LaunchRequest>(input).map(|request| request.spec);
    let applied =
        || serde_json::from_slice::<ApplyRequest>(input).ok().and_then(|request| request.asked().ok());
    if let Some(spec) = spec.ok().or_else(applied) {
        asked_for(&spec);
    }
    if let Ok(isolation) = serde_json::from_slice::<Isolation>(input)
        && isolation.problem().is_none()
    {
        understood(&isolation);
    }
    let _ = serde_json::from_slice::<ExecRequest>(input);
    let _ = serde_json::from_slice::<SignalRequest>(input);
    let _ = serde_json::from_slice::<StopRequest>(input);
    let _ = serde_json::from_slice::<PinRequest>(input);
    if let Ok(change) = serde_json::from_slice::<Change>(input) {
        let (rules, capacity) = (Ruleset::built_in(Defaults::default()), Bytes::GIB);
        let before = r#"{"tenant":"acme","name":"web","memory":{"floor":16777216,"ceiling":67108864}}"#;
        let identity: Identity = serde_json::from_str(before).expect("an identity");
        if let Ok(after) = change.of(&identity, &rules, capacity) {
            governed(&after, &rules, capacity);
        }
    }
    // What an earlier agent has left, and what is noted on cgroups.
    let _ = serde_json::from_slice::<Record>(input);
    let _ = serde_json::from_slice::<shelf::Kept>(input);
    let _ = serde_json::from_slice::<Identity>(input);
    let _ = serde_json::from_slice::<IdRange>(input);
    if let Ok(pool) = serde_json::from_slice::<Pool>(input)
        && pool.problem().is_none()
    {
        let range = pool.choose("acme", &[]).expect("none is taken");
        assert!(range.first >= 65_536 && range.first.checked_add(range.count).is_some(), "{range:?}");
    }
}

fn asked_for(spec: &Spec<Asked>) {
    if spec.problem().is_some() {
        return;
    }
    understood(&spec.isolation);
    let again = serde_json::to_vec(spec).expect("it is written");
    let again: Spec<Asked> = serde_json::from_slice(&again).expect("what is written is read");
    assert_eq!((&again.isolation, &again.identity), (&spec.isolation, &spec.identity));
    let (rules, capacity) = (Ruleset::built_in(Defaults::default()), Bytes::GIB);
    let Asked { tenant, name, class, .. } = &spec.identity;
    if let Ok(assignment) = rules.assign(tenant.as_str(), name.as_str(), class.as_ref().map(Name::as_str))
        && let Ok(identity) = spec.identity.clone().become_of(&assignment, capacity)
    {
        governed(&identity, &rules, capacity);
    }
    let lists = format!("tenants = {{ \"{tenant}\" = {{ users = [7], directories = [\"/srv/acme\"] }} }}");
    let access = Access::new(&toml::from_str::<Api>(&lists).expect("lists")).expect("access");
    if access.rights(7, &[]).may_launch(spec).is_ok() {
        let Isolation { no_new_privs, seccomp, capabilities, root, .. } = &spec.isolation;
        assert!(spec.isolation.has_own_users() && *no_new_privs && *seccomp && class.is_none());
        assert!(spec.identity.resources.io_max.is_empty(), "no device of the host");
        let kept = capabilities.as_ref().expect("few").iter().fold(0, |set, one| set | one.bit());
        let few = Capability::of_a_tenant().iter().fold(0, |set, one| set | one.bit());
        assert_eq!(kept & !few, 0);
        let words = spec.isolation.words();
        let sources =
            words.iter().zip(words.iter().skip(1)).filter(|(word, _)| *word == "bind").map(|(_, path)| path);
        let own = match root {
            Root::Host => None,
            Root::Directory { path, .. } => Some(path),
        };
        for path in sources.chain(own) {
            assert!(std::path::Path::new(path).starts_with("/srv/acme") && !path.contains(".."), "{path}");
        }
    }
}

/// A workload that the policies let in is launched or refused, and its law has limits for it.
fn governed(identity: &Identity, rules: &Ruleset, capacity: Bytes) {
    assert!(identity.memory.floor <= identity.memory.ceiling);
    let class = rules.class(identity.class.as_str()).expect("its class");
    let law = Workload::new(identity.memory, class.memory.law);
    let mut budget = Budget::new(capacity, Bytes::mib(100));
    if bellows_policies::launch(&law, &mut budget).is_ok() {
        let limits = law.launch_limits();
        assert!(
            limits.high <= limits.max && limits.high <= capacity && law.released_max() >= limits.max,
            "{limits:?}"
        );
    }
}

/// What the agent says of a box is what init understands.
fn understood(isolation: &Isolation) {
    let words = isolation.words();
    let text: String = words.iter().flat_map(|word| [word.as_str(), "\0"]).collect();
    let order = Order::parse(text.as_bytes())
        .unwrap_or_else(|error| panic!("init does not understand {words:?}: {error}"));
    assert_eq!(order.root.is_some(), isolation.has_own_root());
    for ((name, whose), (word, kind)) in isolation.namespaces.each().into_iter().zip(KINDS) {
        assert_eq!((name, order.joins(kind), order.is_new(kind)), (word, whose.is_joined(), whose.is_new()));
    }
    assert_eq!((order.no_new_privs, order.seccomp), (isolation.no_new_privs, isolation.seccomp));
    assert_eq!(order.domainname, isolation.domainname);
    assert_eq!(order.capabilities.is_some(), isolation.capabilities.is_some());
    assert_eq!(order.rlimits.len(), isolation.rlimits.len());
    // Three more are empty on the host's root.
    let more = if isolation.root == Root::Host && isolation.has_own_root() { 3 } else { 0 };
    assert_eq!(order.mounts.len(), isolation.mounts.len() + more);
    let is_writable = |mount: &&Mount| matches!(mount, Mount::Bind { writable: true, .. });
    let asked = words.iter().filter(|word| *word == "rw").count();
    assert!(order.mounts.iter().filter(is_writable).count() <= asked);
}

/// Files of `bellows apply`. What is read is what the agent takes, and reads the same of the client's request.
fn workload(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    for workload in bellows::cli::workload_files(text).into_iter().flatten() {
        let spec = workload.clone().spec().expect("a file that is read can be launched");
        assert_eq!(spec.problem(), None);
        asked_for(&spec);
        let request = ApplyRequest { workload: Some(workload), spec: None, dry_run: true };
        let request = serde_json::to_vec(&request).expect("it is written");
        let request: ApplyRequest = serde_json::from_slice(&request).expect("what is written is read");
        let json = |spec: &Spec<Asked>| serde_json::to_value(spec).expect("json");
        assert_eq!(json(&request.asked().expect("it can be launched")), json(&spec));
    }
}

/// The tar of a root file system, with headers that add up. Nothing beside the root is touched.
fn archive(input: &[u8]) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let place = std::env::temp_dir().join(format!("bellows-fuzz-tar-{}-{number}", std::process::id()));
    fs::create_dir_all(place.join("root")).expect("a directory");
    fs::write(place.join("beside"), "untouched").expect("a file");
    let root = fs::File::open(place.join("root")).expect("the root");
    let _ = unpack(&with_sums(input)[..], root.as_fd(), None, Bytes::MIB);
    let beside = fs::metadata(place.join("beside")).expect("it is there");
    let all = fs::read_dir(&place).expect("readable").count();
    assert_eq!((beside.nlink(), beside.len(), all), (1, 9, 2), "something beside the root was touched");
    fs::remove_dir_all(&place).expect("it can be removed");
}

/// The same archive with each header's sum made right, so that what was changed is read at all.
fn with_sums(input: &[u8]) -> Vec<u8> {
    let mut archive = input.to_vec();
    let mut at = 0;
    while let Some(block) = archive.get_mut(at..at + 512) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().copied().map(u32::from).sum();
        // A block of nothing is an end.
        if sum == 8 * u32::from(b' ') {
            block[148..156].fill(0);
            at += 512;
            continue;
        }
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size =
            std::str::from_utf8(&block[124..135]).ok().and_then(|text| usize::from_str_radix(text, 8).ok());
        at = at.saturating_add(512).saturating_add(size.unwrap_or(0).next_multiple_of(512));
    }
    archive
}

/// A file of policies. What has no mistakes gives every class to a workload.
fn policies(input: &[u8]) {
    let text = String::from_utf8_lossy(input).into_owned();
    let source = Source { name: "10-made-up.toml".to_owned(), text };
    let node = Node { machine: Some(Bytes::GIB), ..Node::default() };
    let compiled = policy::compile(vec![source], Vec::new(), node);
    for diagnostic in &compiled.diagnostics {
        assert!(!diagnostic.render(&compiled.sources).is_empty());
    }
    if compiled.problems() > 0 {
        return;
    }
    let rules = &compiled.rules;
    for class in rules.classes.keys() {
        let asked = Asked {
            tenant: "acme".parse().expect("a name"),
            name: "web".parse().expect("a name"),
            class: class.parse().ok(),
            memory: None,
            cpu: None,
            resources: Resources::default(),
        };
        if let Ok(assignment) = rules.assign("acme", "web", Some(class))
            && let Ok(identity) = asked.become_of(&assignment, Bytes::GIB)
        {
            governed(&identity, rules, Bytes::GIB);
        }
    }
}

/// The agent's configuration. What is wrong is told with its place.
fn configuration(input: &[u8]) {
    let reading = bellows::config::read_text(&String::from_utf8_lossy(input));
    let told = reading.told();
    assert_eq!(told.len(), reading.diagnostics.len());
    assert!(!reading.values().is_empty());
}

/// Init's end of the channel, a word in each line; and the agent's, with what init says.
fn order(input: &[u8]) {
    let words: Vec<u8> = input.iter().map(|&byte| if byte == b'\n' { 0 } else { byte }).collect();
    if let Ok(order) = Order::parse(&words) {
        assert!(order.mounts.len() <= words.len() && order.env.len() <= words.len());
    }
    let text = String::from_utf8_lossy(input);
    if let Some(pid) = told_pid(&text) {
        assert!(pid > 0, "a group of processes, or all, would be meant by {pid}");
    }
    let _ = records::parse(&text);
}

/// Who a command is by what a tenant has written into its root file system: who is asked for, users and groups, parted by empty lines.
fn accounts(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut parts = text.splitn(3, "\n\n");
    let [asked, users, groups] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    if let Ok(User { uid, gid, groups: more }) = look_up(asked, users, groups) {
        let (who, group) = asked.split_once(':').map_or((asked, None), |(who, group)| (who, Some(group)));
        assert!(who.parse().is_ok_and(|number: u32| number == uid.as_raw()) || users.contains(who), "{uid}");
        assert!(uid.as_raw() != u32::MAX && gid.as_raw() != u32::MAX, "nothing would be changed");
        assert!(more.len() <= 64 && !more.contains(&gid));
        assert!(group.is_none() || more.is_empty(), "who asks for a group has no other");
    }
}

/// Names, sizes, bounds, durations, signals: one in each line. What is read is within its bounds, and reads back where nothing is
/// rounded.
fn units(input: &[u8]) {
    for text in String::from_utf8_lossy(input).lines() {
        if let Ok(name) = text.parse::<Name>() {
            assert!(name.as_str() == text && name.as_str().len() <= 64 && !text.contains(['/', '\0']));
            assert!(!text.starts_with(['.', '-']));
        }
        if let Ok(bounds) = text.parse::<Bounds>() {
            assert!(bounds.floor <= bounds.ceiling && !bounds.to_string().is_empty());
        }
        if let Ok(bounds) = text.parse::<CpuBounds>() {
            assert!(bounds.floor <= bounds.ceiling && !bounds.to_string().is_empty());
        }
        if let Ok(bytes) = text.parse::<Bytes>() {
            assert_eq!(bytes.0.to_string().parse::<Bytes>(), Ok(bytes));
        }
        let _ = text.parse::<Cpus>().map(|cpus| cpus.to_string());
        let _ = bellows::api::seconds_of(text);
        if let Ok(one) = text.parse::<Capability>() {
            assert_eq!(one.to_string().parse(), Ok(one));
        }
        if let Ok(one) = text.parse::<Resource>() {
            assert_eq!(one.to_string().parse(), Ok(one));
        }
        if let Ok(rule) = text.parse::<Restart>() {
            assert_eq!(rule.as_str(), text);
        }
    }
}

/// Traces of `bellows policy simulate`, and the tests of policies.
fn trace(input: &[u8]) {
    let text = String::from_utf8_lossy(input).into_owned();
    let _ = bellows::simulate::read_suite(&text);
    let source = Source { name: "trace.csv".to_owned(), text };
    if let Err(found) = bellows::simulate::read_trace(&source) {
        let sources = [source];
        assert!(found.iter().all(|one| !one.render(&sources).is_empty()));
    }
}
