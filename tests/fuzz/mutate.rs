//! Changes of inputs that know texts: numbers become edges, words become other words, parts are doubled, cut and mixed.

/// An input is not made longer than this.
const LONGEST: usize = 32 * 1024;

/// What a parser may stumble over.
const WORDS: &[&str] = &[
    "0",
    "-1",
    "1",
    "18446744073709551615",
    "18446744073709551616",
    "9223372036854775807",
    "-9223372036854775808",
    "4294967295",
    "4294967296",
    "1e309",
    "-0",
    "0.1",
    "1.5G",
    "16E",
    "1K",
    "nan",
    "inf",
    "true",
    "false",
    "null",
    "\"\"",
    "[]",
    "{}",
    "[[",
    "]]",
    "..",
    "/",
    "//",
    "\0",
    "\n",
    "\r\n",
    "\t",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "'''",
    "\"\"\"",
    "#",
    "=",
    ",",
    ":",
    ".",
    "é",
    "\u{202e}",
    "\u{feff}",
    "max",
    "new",
    "host",
    "class",
    "own",
    "default",
    "inherits",
    "floor",
    "ceiling",
    "users",
    "bind",
    "tmpfs",
    "root",
    "overlay",
    "rlimit",
    "capabilities",
    "seccomp",
    "isolation",
    "memory",
    "cpu",
    "tenant",
    "name",
    "argv",
    "command",
    "env",
    "workload",
    "stop_signal",
    "grace",
    "log_size",
    "preset",
    "rootfs",
    "ulimit",
    "1970-01-01T00:00:00Z",
];

/// SplitMix64: any number is a good seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `most`, which is not zero.
    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % most as u64).unwrap_or(0)
    }

    fn word(&mut self) -> &'static [u8] {
        WORDS[self.below(WORDS.len())].as_bytes()
    }

    /// A stretch of something that is so long.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let most = (length - start).min(64);
        start..start + self.below(most + 1)
    }
}

/// One of the seeds, changed a few times.
pub(crate) fn changed(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(5) {
        change(random, &mut input, seeds);
        input.truncate(LONGEST);
    }
    input
}

fn change(random: &mut Random, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let place = random.below(input.len() + 1);
    match random.below(9) {
        0 if !input.is_empty() => {
            let at = place.min(input.len() - 1);
            input[at] ^= 1 << random.below(8);
        }
        1 => drop(input.drain(random.range(input.len()))),
        2 => {
            let part = input[random.range(input.len())].to_vec();
            insert(input, place, &part);
        }
        3 | 4 => insert(input, place, random.word()),
        // A token in place of a token.
        5 | 6 => {
            let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
            let start = input[..place].iter().rposition(|byte| !is_part(byte)).map_or(0, |at| at + 1);
            let end =
                input[place..].iter().position(|byte| !is_part(byte)).map_or(input.len(), |at| place + at);
            let word = random.word();
            drop(input.splice(start..end, word.iter().copied()));
        }
        7 => {
            let other = &seeds[random.below(seeds.len())];
            let part = other[random.range(other.len())].to_vec();
            insert(input, place, &part);
        }
        _ => {
            let part = [b"[".as_slice(), b"{\"a\":", b"(", b"x", b"\xff", b"a.", b"9"][random.below(7)];
            let times = 1 << random.below(10);
            insert(input, place, &part.repeat(times));
        }
    }
}

fn insert(input: &mut Vec<u8>, place: usize, part: &[u8]) {
    drop(input.splice(place..place, part.iter().copied()));
}
