//! From TOML to set fields, by the tables of fields. Whatever is wrong is told, and the rest goes on.

use bellows_policies::field::{Field, Raw, Value};
use bellows_policies::ruleset::{Class, Node, Rule, Tenant};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, meant};
use super::source::{Place, Source};
use crate::workload::spec::Name;

/// The tables of all sections.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) node: Vec<Field<Node>>,
    pub(super) class: Vec<Field<Class>>,
    pub(super) tenant: Vec<Field<Tenant>>,
    pub(super) rule: Vec<Field<Rule>>,
}

/// A field that is set.
#[derive(Debug)]
pub(super) struct Set {
    /// Its index in the section's table.
    pub(super) field: usize,
    pub(super) value: Value,
    /// Where the value stands.
    pub(super) place: Place,
}

/// One section of one file.
#[derive(Debug)]
pub(super) struct Block {
    /// Of the class or the tenant; empty for the node and for rules.
    pub(super) name: String,
    /// Where it begins.
    pub(super) place: Place,
    pub(super) sets: Vec<Set>,
    /// Nothing in it is wrong by itself: what it says is what was meant.
    pub(super) is_sound: bool,
}

/// All sections, in order.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    pub(super) node: Vec<Block>,
    pub(super) classes: Vec<Block>,
    pub(super) tenants: Vec<Block>,
    pub(super) rules: Vec<Block>,
    /// Sections are missing that the files meant to have: what refers to them cannot be judged.
    pub(super) are_missing: bool,
}

impl Block {
    fn new(name: &str, place: Place) -> Self {
        Self { name: name.to_owned(), place, sets: Vec::new(), is_sound: true }
    }
}

impl Tables {
    pub(super) fn new() -> Self {
        Self { node: Node::fields(), class: Class::fields(), tenant: Tenant::fields(), rule: Rule::fields() }
    }
}

/// Decodes one file.
pub(super) fn decode(
    file: usize,
    source: &Source,
    tables: &Tables,
    blocks: &mut Blocks,
    found: &mut Vec<Diagnostic>,
) {
    let (document, errors) = DeTable::parse_recoverable(&source.text);
    if !errors.is_empty() {
        blocks.are_missing = true;
        // What the parser makes of the rest is not what was meant.
        found.extend(errors.iter().map(|error| {
            let span = error.span().unwrap_or(0..0);
            Diagnostic::error(Place { file, start: span.start, end: span.end }, error.message())
        }));
        return;
    }
    let mut decoder = Decoder { file, found, are_missing: false };
    for (key, value) in document.get_ref() {
        match key.get_ref().as_ref() {
            "node" => {
                let node = Block::new("", decoder.place(key));
                blocks.node.extend(decoder.block(&tables.node, node, value));
            }
            "class" => decoder.named(&tables.class, "class", value, &mut blocks.classes),
            "tenant" => decoder.named(&tables.tenant, "tenant", value, &mut blocks.tenants),
            "rule" => match value.get_ref() {
                DeValue::Array(rules) => {
                    for rule in rules {
                        let block = Block::new("", decoder.place(rule));
                        blocks.rules.extend(decoder.block(&tables.rule, block, rule));
                    }
                }
                _ => decoder.miss(value, "expected rules: write each as [[rule]]".to_owned(), None),
            },
            name => {
                let help = meant(name, ["node", "class", "tenant", "rule"]);
                let help = help.or_else(|| Some("there are node, class, tenant and rule".to_owned()));
                decoder.miss(key, format!("unknown section `{name}`"), help);
            }
        }
    }
    blocks.are_missing |= decoder.are_missing;
}

struct Decoder<'d> {
    file: usize,
    found: &'d mut Vec<Diagnostic>,
    are_missing: bool,
}

impl Decoder<'_> {
    fn place<T>(&self, spanned: &Spanned<T>) -> Place {
        let span = spanned.span();
        Place { file: self.file, start: span.start, end: span.end }
    }

    fn tell<T>(&mut self, at: &Spanned<T>, message: String, help: Option<String>) {
        let place = self.place(at);
        self.found.push(Diagnostic::error(place, message).help(help));
    }

    /// The same of something by which a whole section is lost.
    fn miss<T>(&mut self, at: &Spanned<T>, message: String, help: Option<String>) {
        self.are_missing = true;
        self.tell(at, message, help);
    }

    /// `[class.NAME]`, `[tenant.NAME]`.
    fn named<T: 'static>(
        &mut self,
        fields: &[Field<T>],
        section: &str,
        value: &Spanned<DeValue<'_>>,
        out: &mut Vec<Block>,
    ) {
        let DeValue::Table(table) = value.get_ref() else {
            return self.miss(value, format!("expected sections: write each as [{section}.NAME]"), None);
        };
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            if let Err(error) = name.parse::<Name>() {
                self.miss(key, error.to_string(), None);
                continue;
            }
            let block = Block::new(name, self.place(key));
            out.extend(self.block(fields, block, value));
        }
    }

    fn block<T: 'static>(
        &mut self,
        fields: &[Field<T>],
        mut block: Block,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<Block> {
        match value.get_ref() {
            DeValue::Table(table) => {
                let before = self.found.len();
                self.section(fields, "", table, &mut block.sets);
                block.is_sound = self.found.len() == before;
                Some(block)
            }
            other => {
                self.miss(value, format!("expected a section, found {}", raw(other).name()), None);
                None
            }
        }
    }

    /// The keys of a table, `prefix` being those of the tables around it, with their dots.
    fn section<T: 'static>(
        &mut self,
        fields: &[Field<T>],
        prefix: &str,
        table: &DeTable<'_>,
        sets: &mut Vec<Set>,
    ) {
        for (key, value) in table {
            let path = format!("{prefix}{}", key.get_ref());
            if let Some(index) = fields.iter().position(|field| field.key == path) {
                let kind = fields[index].kind;
                match kind.read(&raw(value.get_ref())) {
                    Ok(read) => sets.push(Set { field: index, value: read, place: self.place(value) }),
                    Err(problem) => {
                        let text = value.get_ref().as_str().unwrap_or_default();
                        let help = meant(text, kind.words().iter().copied());
                        self.tell(value, format!("{path}: {problem}"), help);
                    }
                }
                continue;
            }
            let inner = format!("{path}.");
            if fields.iter().any(|field| field.key.starts_with(&inner)) {
                match value.get_ref() {
                    DeValue::Table(table) => self.section(fields, &inner, table, sets),
                    other => {
                        let name = raw(other).name();
                        let help = keys(fields, &inner).join(", ");
                        self.tell(
                            value,
                            format!("{path}: expected a table, found {name}"),
                            Some(format!("its keys are {help}")).filter(|help| help.len() < 120),
                        );
                    }
                }
                continue;
            }
            let siblings = keys(fields, prefix);
            let help = meant(key.get_ref(), siblings.iter().copied())
                .or_else(|| elsewhere(fields, key.get_ref()))
                .or_else(|| Some(format!("there are {}", siblings.join(", "))).filter(|h| h.len() < 120));
            self.tell(key, format!("unknown key `{path}`"), help);
        }
    }
}

/// The keys that may stand directly below `prefix`.
fn keys<'f, T>(fields: &'f [Field<T>], prefix: &str) -> Vec<&'f str> {
    let below = fields.iter().filter_map(|field| field.key.strip_prefix(prefix));
    let mut keys = Vec::new();
    for key in below.map(|rest| rest.split('.').next().unwrap_or(rest)) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// A key that stands in another table: `ceiling` is `memory.ceiling`.
fn elsewhere<T>(fields: &[Field<T>], key: &str) -> Option<String> {
    let found = fields.iter().find(|field| field.key.rsplit('.').next() == Some(key))?;
    Some(format!("did you mean `{}`?", found.key))
}

fn raw<'v>(value: &'v DeValue<'_>) -> Raw<'v> {
    match value {
        DeValue::String(text) => Raw::Text(text),
        DeValue::Integer(number) => {
            let text = number.as_str().replace('_', "");
            i64::from_str_radix(&text, number.radix())
                .map_or(Raw::Other("a number that does not fit 64 bits"), Raw::Integer)
        }
        DeValue::Float(number) => number
            .as_str()
            .replace('_', "")
            .parse()
            .map_or(Raw::Other("a number that is not understood"), Raw::Float),
        DeValue::Boolean(flag) => Raw::Flag(*flag),
        DeValue::Datetime(_) => Raw::Other("a date"),
        DeValue::Table(_) => Raw::Other("a table"),
        DeValue::Array(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
            texts.map_or(Raw::Other("a list of something else than texts"), Raw::Texts)
        }
    }
}
