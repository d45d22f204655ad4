//! What only shows between keys: bounds out of order, rules that nothing reaches, promises that cannot be kept. Of sections that
//! are sound by themselves: what a misspelt key would have said is not known, and nothing is concluded from its absence.

use std::collections::BTreeMap;

use bellows_policies::field::{Field, Value};
use bellows_policies::ladder::{LadderLaw, PressureLaw};
use bellows_policies::ruleset::{Class, Node, Rule, Ruleset, Tenant, glob};
use bellows_policies::{Bytes, CpuLaw, Law};

use super::compile::{Origins, Resolved, effective, word};
use super::decode::{Block, Tables};
use super::diagnostic::{Diagnostic, meant};

/// Floors above ceilings and the like, where a class itself has a part in it: what it inherits whole was told already.
pub(super) fn classes(
    fields: &[Field<Class>],
    classes: &BTreeMap<String, Resolved>,
    capacity: Option<Bytes>,
    found: &mut Vec<Diagnostic>,
) {
    let index = |key: &str| fields.iter().position(|field| field.key == key);
    let within = |prefix: &str, pair: &(&str, &str)| {
        Some((index(&format!("{prefix}{}", pair.0))?, index(&format!("{prefix}{}", pair.1))?))
    };
    let pairs: Vec<(usize, usize)> = [("memory.floor", "memory.ceiling")]
        .iter()
        .chain(Class::PAIRS)
        .filter_map(|pair| within("", pair))
        .chain(Law::PAIRS.iter().filter_map(|pair| within("memory.", pair)))
        .chain(CpuLaw::PAIRS.iter().filter_map(|pair| within("cpu.", pair)))
        .collect();
    for (name, resolved) in classes.iter().filter(|(_, resolved)| resolved.is_sound) {
        let own = |at: usize| resolved.own.contains(&at).then(|| resolved.origins[at]).flatten();
        for &(least, most) in &pairs {
            let value = |at: usize| (fields[at].get)(&resolved.class);
            let (low, high) = (value(least), value(most));
            let (here, other) = match (own(least), own(most)) {
                (Some(place), _) => (place, most),
                (None, Some(place)) => (place, least),
                (None, None) => continue,
            };
            if is_above(&low, &high, capacity) {
                let (low, high) = (low.plain(), high.plain());
                let (least, most, other_key) = (&fields[least].key, &fields[most].key, &fields[other].key);
                let text = format!("{least} = {low} is above {most} = {high} in the class `{name}`");
                let note = format!("{other_key} is set here");
                found.push(Diagnostic::error(here, text).note(note, resolved.origins[other]));
            }
        }
    }
}

/// Classes that are not there, and rules behind one that takes all that they match.
pub(super) fn rules(
    fields: &[Field<Rule>],
    blocks: &[Block],
    rules: &[Rule],
    classes: &BTreeMap<String, Resolved>,
    found: &mut Vec<Diagnostic>,
) {
    for (at, (block, rule)) in blocks.iter().zip(rules).enumerate().filter(|(_, (block, _))| block.is_sound) {
        let sets = effective([block]);
        match sets.values().find(|set| fields[set.field].key == "class") {
            None => found.push(Diagnostic::error(block.place, "a rule needs a `class`")),
            Some(set) if !classes.contains_key(&rule.class) => {
                let text = format!("there is no class `{}`", rule.class);
                let help = meant(word(set), classes.keys().map(String::as_str));
                found.push(Diagnostic::error(set.place, text).help(help));
            }
            Some(_) => {}
        }
        let covers = |earlier: &Rule| {
            glob::covers(&earlier.tenant, &rule.tenant) && glob::covers(&earlier.workload, &rule.workload)
        };
        let earlier = blocks.iter().zip(&rules[..at]);
        if let Some(earlier) = earlier.clone().position(|(block, rule)| block.is_sound && covers(rule)) {
            let text = "nothing reaches this rule: an earlier one matches all that it matches";
            let note = "the earlier one is here";
            found.push(Diagnostic::error(block.place, text).note(note, Some(blocks[earlier].place)));
        }
    }
}

/// Constants of the node of which the first may not be more than the second.
pub(super) fn node(fields: &[Field<Node>], rules: &Ruleset, origins: &Origins, found: &mut Vec<Diagnostic>) {
    let pairs = [("squeeze", LadderLaw::PAIRS), ("pressure", PressureLaw::PAIRS)];
    for (prefix, (least, most)) in pairs.iter().flat_map(|(p, pairs)| pairs.iter().map(move |pair| (p, pair)))
    {
        let at = |key: &str| fields.iter().position(|field| field.key == format!("{prefix}.{key}"));
        let (Some(least), Some(most)) = (at(least), at(most)) else { continue };
        let (low, high) = ((fields[least].get)(&rules.node), (fields[most].get)(&rules.node));
        if low.is_above(&high)
            && let Some(place) = origins[least].or(origins[most])
        {
            let (low, high) = (low.plain(), high.plain());
            let (least, most) = (&fields[least].key, &fields[most].key);
            found.push(Diagnostic::error(place, format!("{least} = {low} is above {most} = {high}")));
        }
    }
}

/// Classes of tenants that are not there.
pub(super) fn tenants(
    fields: &[Field<Tenant>],
    blocks: &[Block],
    classes: &BTreeMap<String, Resolved>,
    found: &mut Vec<Diagnostic>,
) {
    for set in blocks.iter().flat_map(|block| &block.sets) {
        if fields[set.field].key == "class" && !classes.contains_key(word(set)) {
            let text = format!("there is no class `{}`", word(set));
            let help = meant(word(set), classes.keys().map(String::as_str));
            found.push(Diagnostic::error(set.place, text).help(help));
        }
    }
}

/// Whether what is promised can be kept.
pub(super) fn budget(
    tables: &Tables,
    rules: &Ruleset,
    tenants: &BTreeMap<String, Origins>,
    node: &Origins,
    capacity: Option<Bytes>,
    found: &mut Vec<Diagnostic>,
) {
    let at = |key: &str| tables.tenant.iter().position(|field| field.key == key).unwrap_or_default();
    let (guarantee_at, cap_at) = (at("memory.guarantee"), at("memory.cap"));
    let pool = pool(rules, capacity);
    let reserve_at = tables.node.iter().position(|field| field.key == "reserve").unwrap_or_default();
    if let (Some(place), Some(pool)) = (node[reserve_at], pool)
        && pool == Bytes::ZERO
    {
        found.push(Diagnostic::error(place, "reserve: it leaves nothing of the capacity to grant"));
    }
    let mut sum = Bytes::ZERO;
    for (name, tenant) in &rules.tenants {
        let Some(place) = tenants[name][guarantee_at] else { continue };
        let (Some(guarantee), cap) = (
            tenant.guarantee.and_then(|amount| amount.known(capacity)),
            tenant.cap.and_then(|amount| amount.known(capacity)),
        ) else {
            continue;
        };
        if let Some(cap) = cap.filter(|cap| guarantee > *cap) {
            let text =
                format!("the guarantee of the tenant `{name}`, {guarantee}, is above its cap of {cap}");
            found.push(Diagnostic::error(place, text).note("the cap is set here", tenants[name][cap_at]));
        }
        let before = sum;
        sum = sum.saturating_add(guarantee);
        if let Some(pool) = pool.filter(|pool| sum > *pool && before <= *pool) {
            let text = format!(
                "with the tenant `{name}` the guarantees come to {sum}, and the node has {pool} to grant"
            );
            found.push(Diagnostic::error(place, text));
        }
    }
}

/// Floors that can never be admitted.
pub(super) fn floors(
    fields: &[Field<Class>],
    rules: &Ruleset,
    classes: &BTreeMap<String, Resolved>,
    capacity: Option<Bytes>,
    found: &mut Vec<Diagnostic>,
) {
    let Some(pool) = pool(rules, capacity) else { return };
    let Some(at) = fields.iter().position(|field| field.key == "memory.floor") else { return };
    let own = |resolved: &Resolved| resolved.is_sound && resolved.own.contains(&at);
    for (name, resolved) in classes.iter().filter(|(_, resolved)| own(resolved)) {
        let floor = resolved.class.memory.floor.and_then(|floor| floor.known(capacity));
        if let (Some(floor), Some(place)) = (floor.filter(|floor| *floor > pool), resolved.origins[at]) {
            let text = format!(
                "a floor of {floor} in the class `{name}` can never be had: the node has {pool} to grant"
            );
            found.push(Diagnostic::error(place, text));
        }
    }
}

/// What can be granted: the capacity less the reserve, a tenth when nothing is said.
fn pool(rules: &Ruleset, capacity: Option<Bytes>) -> Option<Bytes> {
    let capacity = capacity?;
    let reserve = rules.node.reserve.map_or_else(|| capacity.scale(0.1), |amount| amount.of(capacity));
    Some(capacity.saturating_sub(reserve))
}

fn is_above(low: &Value, high: &Value, capacity: Option<Bytes>) -> bool {
    use bellows_policies::field::Amount::Percent;
    match (low, high) {
        (Value::Amount(Percent(low)), Value::Amount(Percent(high))) => low > high,
        (Value::Amount(low), Value::Amount(high)) => {
            low.known(capacity).zip(high.known(capacity)).is_some_and(|(low, high)| low > high)
        }
        _ => low.is_above(high),
    }
}
