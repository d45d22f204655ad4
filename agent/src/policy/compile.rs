//! From decoded files to a rule set: later files override earlier ones key by key, classes inherit, rules assign.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellows_policies::Bytes;
use bellows_policies::field::Field;
use bellows_policies::ruleset::{Class, DEFAULT_CLASS, Defaults, Rule, Ruleset, Tenant};

use super::check;
use super::decode::{Block, Blocks, Set, Tables, decode};
use super::diagnostic::{Diagnostic, meant};
use super::source::{Place, Source};

/// The most rules.
const MOST_RULES: usize = 10_000;
/// The most classes: each is a value of a metric's label.
const MOST_CLASSES: usize = 1000;

/// What is known of the node that policies are for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Node {
    /// What the built-in classes begin with.
    pub defaults: Defaults,
    /// The capacity that a flag or the configuration gives: it wins over the policies' own.
    pub given: Option<Bytes>,
    /// What the machine has, where nobody says otherwise.
    pub machine: Option<Bytes>,
}

/// Where each field of a class or a tenant was set; `None` is built in.
pub(super) type Origins = Vec<Option<Place>>;

/// What became of the files.
#[derive(Debug)]
pub struct Compiled {
    /// The files.
    pub sources: Vec<Source>,
    /// All that is wrong, in the order of files and places.
    pub diagnostics: Vec<Diagnostic>,
    /// The rule set; sound only if [`Self::problems`] is zero.
    pub rules: Ruleset,
    pub(super) origins: BTreeMap<String, Origins>,
    pub(super) tenant_origins: BTreeMap<String, Origins>,
    pub(super) node_origins: Origins,
}

/// A class as it was resolved, and what its own files set.
pub(super) struct Resolved {
    pub(super) class: Class,
    pub(super) origins: Origins,
    pub(super) own: Vec<usize>,
    /// What it and its ancestors say is what was meant.
    pub(super) is_sound: bool,
}

impl Compiled {
    /// How many errors there are.
    #[must_use]
    pub fn problems(&self) -> usize {
        self.diagnostics.len()
    }

    /// Why an agent cannot govern by it, if so: the first reason, and how many there are.
    #[must_use]
    pub fn refusal(&self) -> Option<(String, usize)> {
        let first = self.diagnostics.first()?.brief(&self.sources);
        Some((first, self.diagnostics.len()))
    }
}

/// Compiles files, with what their reading has already told.
#[must_use]
pub fn compile(sources: Vec<Source>, mut found: Vec<Diagnostic>, node: Node) -> Compiled {
    let tables = Tables::new();
    let mut blocks = Blocks::default();
    let troubles = found.len();
    for (file, source) in sources.iter().enumerate() {
        decode(file, source, &tables, &mut blocks, &mut found);
    }
    // With sections unread, what refers to them would be told of too.
    let is_whole = !blocks.are_missing && troubles == 0;
    let mut rules = Ruleset::built_in(node.defaults);
    if !sources.is_empty() {
        rules.version = version(&sources);
    }
    let mut node_origins = vec![None; tables.node.len()];
    apply(&tables.node, &effective(&blocks.node), &mut rules.node, &mut node_origins);
    let capacity = node.given.or(rules.node.capacity).or(node.machine);

    let classes =
        resolve(&tables.class, &blocks.classes, Ruleset::built_in(node.defaults), is_whole, &mut found);
    let mut tenant_origins = BTreeMap::new();
    for (name, blocks) in by_name(&blocks.tenants) {
        let mut tenant = Tenant::plain();
        let mut origins = vec![None; tables.tenant.len()];
        apply(&tables.tenant, &effective(blocks), &mut tenant, &mut origins);
        rules.tenants.insert(name.to_owned(), tenant);
        tenant_origins.insert(name.to_owned(), origins);
    }
    for block in &blocks.rules {
        let mut rule = Rule { origin: sources[block.place.file].origin(block.place), ..Rule::default() };
        apply(&tables.rule, &effective([block]), &mut rule, &mut vec![None; tables.rule.len()]);
        rules.rules.push(rule);
    }
    bound("rules", MOST_RULES, &blocks.rules, &mut found);
    bound("classes", MOST_CLASSES, &blocks.classes, &mut found);
    check::classes(&tables.class, &classes, capacity, &mut found);
    if is_whole {
        check::rules(&tables.rule, &blocks.rules, &rules.rules, &classes, &mut found);
        check::tenants(&tables.tenant, &blocks.tenants, &classes, &mut found);
    }
    if is_whole && blocks.node.iter().chain(&blocks.tenants).all(|block| block.is_sound) {
        check::budget(&tables, &rules, &tenant_origins, &node_origins, capacity, &mut found);
    }
    if is_whole && blocks.node.iter().all(|block| block.is_sound) {
        check::node(&tables.node, &rules, &node_origins, &mut found);
        check::floors(&tables.class, &rules, &classes, capacity, &mut found);
    }
    let mut origins = BTreeMap::new();
    for (name, resolved) in classes {
        origins.insert(name.clone(), resolved.origins);
        rules.classes.insert(name, Arc::new(resolved.class));
    }
    found.sort_by_key(|d| d.place);
    Compiled { sources, diagnostics: found, rules, origins, tenant_origins, node_origins }
}

fn bound(what: &str, most: usize, blocks: &[Block], found: &mut Vec<Diagnostic>) {
    if let Some(block) = blocks.get(most) {
        found.push(Diagnostic::error(block.place, format!("more than {most} {what}")));
    }
}

/// What is set in the end: the last one of each field.
pub(super) fn effective<'b>(blocks: impl IntoIterator<Item = &'b Block>) -> BTreeMap<usize, &'b Set> {
    blocks.into_iter().flat_map(|block| &block.sets).map(|set| (set.field, set)).collect()
}

fn apply<T: 'static>(
    fields: &[Field<T>],
    sets: &BTreeMap<usize, &Set>,
    whole: &mut T,
    origins: &mut Origins,
) {
    for (&index, set) in sets {
        (fields[index].set)(whole, set.value.clone());
        origins[index] = Some(set.place);
    }
}

fn by_name(blocks: &[Block]) -> BTreeMap<&str, Vec<&Block>> {
    let mut names: BTreeMap<&str, Vec<&Block>> = BTreeMap::new();
    for block in blocks {
        names.entry(&block.name).or_default().push(block);
    }
    names
}

/// Resolves all classes, parents before children. Not by recursion: a chain may be as long as there are classes.
fn resolve(
    fields: &[Field<Class>],
    blocks: &[Block],
    built_in: Ruleset,
    is_whole: bool,
    found: &mut Vec<Diagnostic>,
) -> BTreeMap<String, Resolved> {
    let named = by_name(blocks);
    let sets: BTreeMap<&str, _> =
        named.iter().map(|(name, blocks)| (*name, effective(blocks.iter().copied()))).collect();
    let is_sound =
        |name: &str| named.get(name).is_none_or(|blocks| blocks.iter().all(|block| block.is_sound));
    let mut done: BTreeMap<String, Resolved> = BTreeMap::new();
    for (name, class) in built_in.classes {
        let is_sound = is_sound(&name);
        let (class, origins) = ((*class).clone(), vec![None; fields.len()]);
        let mut resolved = Resolved { class, origins, own: Vec::new(), is_sound };
        if let Some(sets) = sets.get(name.as_str()) {
            if let Some(set) = inherits(fields, sets) {
                let text = format!("`{name}` is built in and inherits from nobody");
                found.push(Diagnostic::error(set.place, text));
            }
            resolved.take(fields, sets);
            resolved.class.inherits = None;
        }
        done.insert(name, resolved);
    }
    for &name in sets.keys() {
        let mut chain = vec![name];
        let mut is_known = true;
        // Up to the first one that is known: built in, resolved, or none at all.
        let parent = loop {
            let child = chain[chain.len() - 1];
            if done.contains_key(child) {
                break chain.pop().unwrap_or(DEFAULT_CLASS);
            }
            let Some(set) = inherits(fields, &sets[child]) else { break DEFAULT_CLASS };
            let parent = word(set);
            if let Some(at) = chain.iter().position(|&link| link == parent) {
                let circle: Vec<&str> = chain[at..].iter().copied().chain([parent]).collect();
                let text = format!("the class `{parent}` inherits from itself: {}", circle.join(" -> "));
                found.push(Diagnostic::error(set.place, text));
                is_known = false;
                break DEFAULT_CLASS;
            }
            if !sets.contains_key(parent) && !done.contains_key(parent) {
                if is_whole {
                    let known = sets.keys().copied().chain(done.keys().map(String::as_str));
                    let text = format!("there is no class `{parent}`");
                    found.push(Diagnostic::error(set.place, text).help(meant(parent, known)));
                }
                is_known = false;
                break DEFAULT_CLASS;
            }
            chain.push(parent);
        };
        let mut parent = parent.to_owned();
        for &link in chain.iter().rev() {
            let above = &done[&parent];
            let is_sound = is_known && above.is_sound && is_sound(link);
            let (class, origins) = (above.class.clone(), above.origins.clone());
            let mut resolved = Resolved { class, origins, own: Vec::new(), is_sound };
            resolved.take(fields, &sets[link]);
            link.clone_into(&mut resolved.class.name);
            resolved.class.inherits = Some(parent.clone());
            done.insert(link.to_owned(), resolved);
            link.clone_into(&mut parent);
        }
    }
    done
}

impl Resolved {
    fn take(&mut self, fields: &[Field<Class>], sets: &BTreeMap<usize, &Set>) {
        apply(fields, sets, &mut self.class, &mut self.origins);
        self.own = sets.keys().copied().collect();
    }
}

fn inherits<'s>(fields: &[Field<Class>], sets: &BTreeMap<usize, &'s Set>) -> Option<&'s Set> {
    sets.iter().find(|(index, _)| fields[**index].key == "inherits").map(|(_, set)| *set)
}

/// The word that a set holds; only called for fields whose kind is a word.
pub(super) fn word(set: &Set) -> &str {
    match &set.value {
        bellows_policies::field::Value::Word(word) => word,
        _ => "",
    }
}

/// A fingerprint of all files: 64-bit FNV-1a, which is enough to tell two rule sets apart and needs no crate.
fn version(sources: &[Source]) -> String {
    let bytes = sources.iter().flat_map(|s| s.name.bytes().chain([0]).chain(s.text.bytes()).chain([0]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}
