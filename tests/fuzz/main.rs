//! Hostile input, made up: whatever comes from a client, a file, or the other end of a channel is read without a panic, within a
//! moment, and comes to what it says (`targets` has what that means for each).
//!
//! Each file of `corpus/TARGET` is tried as it is, and then as many changed ones as there is time for: a changed one that fails is
//! printed and kept in `target/fuzz`, and goes to the corpus when it has been mended. Nothing here knows what code an input reaches: that is
//! for `make fuzz`, where libFuzzer tries the same targets (`coverage/`). What it has found to reach more is in the corpus, too, as files named
//! after their content.
//!
//! `BELLOWS_FUZZ_SEED` says where to begin, `BELLOWS_FUZZ_SECONDS` for how long to go on.

#[path = "../../agent/init/src/accounts.rs"]
mod accounts;
mod mutate;
#[path = "../../agent/init/src/order.rs"]
mod order;
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use mutate::Random;
use targets::TARGETS;

/// As much of a moment as reading anything may take, in cpu time.
const MOMENT: Duration = Duration::from_secs(1);
/// For all targets together, where nobody says otherwise.
const SECONDS: u64 = 15;

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name)
}

/// The files of a target, by name.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory(name)).expect("a corpus").flatten().map(|entry| entry.path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).expect("readable"))).collect()
}

fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the thread's clock").into()
}

/// Why an input fails, if it does.
fn tried(target: fn(&[u8]), input: &[u8]) -> Option<String> {
    let begun = cpu_time();
    let caught = catch_unwind(AssertUnwindSafe(|| target(input)));
    let took = cpu_time().saturating_sub(begun);
    match caught {
        Ok(()) => (took > MOMENT).then(|| format!("it took {took:?}")),
        Err(panic) => Some(
            panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("a panic")
                .to_owned(),
        ),
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

#[test]
fn the_corpus_is_read() {
    for (name, target) in TARGETS {
        let files = corpus(name);
        assert!(!files.is_empty(), "{name} has no corpus");
        for (path, input) in files {
            if let Some(why) = tried(*target, &input) {
                panic!("{}: {why}", path.display());
            }
        }
    }
}

#[test]
fn what_is_made_up_is_read() {
    let seed = number("BELLOWS_FUZZ_SEED").unwrap_or(1);
    let seconds = Duration::from_secs(number("BELLOWS_FUZZ_SECONDS").unwrap_or(SECONDS));
    let share = seconds / u32::try_from(TARGETS.len()).expect("few");
    let mut failed = Vec::new();
    for (name, target) in TARGETS {
        let mut seeds: Vec<Vec<u8>> = corpus(name).into_iter().map(|(_, input)| input).collect();
        seeds.push(Vec::new());
        let (end, mut count) = (Instant::now() + share, 0_u64);
        while Instant::now() < end {
            // Each by a seed of its own: so that one can be repeated without those before it.
            let mut random = Random::new(seed.wrapping_mul(1 << 32).wrapping_add(count));
            let input = mutate::changed(&mut random, &seeds);
            count += 1;
            let Some(why) = tried(*target, &input) else { continue };
            let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz");
            fs::create_dir_all(&kept).expect("directory");
            let path = kept.join(format!("{name}-{seed}-{count}"));
            fs::write(&path, &input).expect("written");
            failed.push(format!(
                "{name}, seed {seed}, input {count}: {why}\n  {}\n  to repeat: copy {} into {} and run the_corpus_is_read",
                String::from_utf8_lossy(&input).escape_debug(),
                path.display(),
                directory(name).display(),
            ));
            break;
        }
        println!("{name}: {count} inputs from seed {seed}");
        assert!(count > 100, "{name}: only {count} inputs in {share:?} are no test");
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
