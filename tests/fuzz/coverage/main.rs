//! The targets beside this folder under libFuzzer, which knows what code an input reaches, and changes further what has reached more.
//!
//! `make fuzz` builds and runs it (`run`); `BELLOWS_FUZZ_TARGET` says which target it is. It is no test of the workspace's: it wants a C++
//! compiler, and all code compiled anew with counters in it. libFuzzer without cargo-fuzz, which does the same by a nightly toolchain.
//!
//! What `target/fuzz/TARGET` has collected is reduced by `bellows-fuzz -merge=1 DIRECTORY target/fuzz/TARGET`; of that, the few small files
//! that reach most belong in the corpus.

#![no_main]

#[path = "../../../agent/init/src/accounts.rs"]
mod accounts;
#[path = "../../../agent/init/src/order.rs"]
mod order;
#[path = "../targets.rs"]
mod targets;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("BELLOWS_FUZZ_TARGET").unwrap_or_default();
    let found = targets::TARGETS.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("BELLOWS_FUZZ_TARGET is no target: {name:?}")).1
});

fuzz_target!(
    init: {
        LazyLock::force(&TARGET);
    },
    |input: &[u8]| TARGET(input)
);
