//! Policies as people write them: TOML files in, a rule set out, or all that is wrong with them.
//!
//! ```text
//! paths --source--> texts --decode--> blocks of set fields --compile--> Ruleset, and where each value came from
//!                     \__________________\_________________________\--> diagnostics, all at once
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `source` | files, in order, bounded; places in them |
//! | `diagnostic` | what is wrong, as a compiler tells it |
//! | `decode` | TOML by the tables of fields: unknown keys, types, ranges |
//! | `compile` | inheritance, rules, tenants, the node; what only shows between keys |
//! | `check` | whether resolved classes, tenants and rules make sense |
//! | `show` | a rule set back as TOML, each value with its origin |
//! | `schema` | the same tables for editors and for the reference |
//!
//! The tables are `bellows_policies::field`'s. serde is not used for the decoding: it stops at the first mistake and knows
//! neither its place nor what was meant.

mod check;
mod compile;
mod decode;
mod diagnostic;
mod schema;
mod show;
mod source;

pub use compile::{Compiled, Node, compile};
pub use diagnostic::Diagnostic;
pub(crate) use diagnostic::meant;
pub use schema::{reference, schema};
pub use show::{Shown, class_json, show_all, show_class};
pub(crate) use source::Place;
pub use source::{Source, read};

use std::path::Path;

/// Reads and compiles a directory. One that does not exist holds no policies.
#[must_use]
pub fn load(directory: &Path, node: Node) -> Compiled {
    let (sources, troubles) =
        if directory.exists() { read(&[directory.to_owned()]) } else { Default::default() };
    compile(sources, troubles, node)
}
