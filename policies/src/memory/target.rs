//! Which limits a grow asks for: H' = min(C + step, ceiling), M' = H' + band, and no jump.
//!
//! C use, H `memory.high`, M `memory.max`. After a grow M' <= 2C + slack: a wrong rate or a wrong verdict must not
//! open the whole machine at once. What the band has for growth is cut first, then H; what it has to have at rest is
//! kept: with 4 MiB above 450, 16 MiB at once would be killed before anybody was throttled. A grow never lowers: limits
//! that stand higher already stay, and do not count as a jump.

use crate::decision::Limits;
use crate::memory::law::Law;
use crate::units::{Bounds, Bytes};

/// The limits of a grow from `now` by `step` with the `band` of what comes out, and `still` of it in any case, at a use of
/// `current`.
pub(crate) fn grow(
    law: &Law,
    bounds: Bounds,
    now: Limits,
    current: Bytes,
    step: Bytes,
    still: Bytes,
    band: impl Fn(Bytes) -> Bytes,
) -> Limits {
    let top = most_max(law, now, current);
    let aim = current.saturating_add(step).min(bounds.ceiling);
    let high = aim.min(top.saturating_sub(still.max(law.band_min))).page_floor().max(now.high);
    let max = high
        .saturating_add(band(high))
        .min(top)
        .max(high.saturating_add(law.band_min))
        .page_floor()
        .max(now.max);
    Limits { high, max }
}

/// The limits to launch with: `memory.high` at the floor, `memory.max` the band of a launch above it.
pub(crate) fn launch(law: &Law, floor: Bytes) -> Limits {
    let high = floor.page_floor();
    Limits { high, max: high.saturating_add(law.band(high, law.launch_threads, 0)) }
}

/// The band above `high`, by threads and growth. Near the ceiling it shrinks to what [`released_max`] leaves: growth needs a
/// band while we react, and there we will not.
pub(crate) fn band_above(law: &Law, ceiling: Bytes, threads: u64, rate: u64, high: Bytes) -> Bytes {
    let room = released_max(law, ceiling, threads).saturating_sub(high);
    law.band(high, threads, rate).min(room).max(law.band_min)
}

/// The highest `memory.max` that is ever asked for: ceiling + the band of its threads. However fast it grows, a tenant gets no
/// more beyond its ceiling.
pub(crate) fn released_max(law: &Law, ceiling: Bytes, threads: u64) -> Bytes {
    ceiling.saturating_add(law.band(ceiling, threads, 0)).page_floor()
}

/// The highest `memory.max` that a grow may ask for: no jump, and never below the present one.
pub(crate) fn most_max(law: &Law, now: Limits, current: Bytes) -> Bytes {
    current.saturating_add(current).saturating_add(law.jump_slack).max(now.max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grow_is_bounded_on_every_side() {
        let mib = Bytes::mib;
        let bounds = Bounds::new(mib(32), mib(512)).unwrap();
        // Limits before, use, step, band at rest, band, limits after.
        let table = [
            ("plain", (64, 68), 64, 16, 4, 4, (80, 84)),
            ("the ceiling bounds high, not max", (480, 484), 480, 100, 4, 16, (512, 528)),
            ("the band is cut first", (32, 48), 32, 64, 4, 64, (96, 128)),
            ("then high", (32, 48), 32, 200, 4, 64, (124, 128)),
            ("but the band at rest is kept", (200, 250), 195, 400, 20, 64, (434, 454)),
            ("never lowers high", (128, 132), 64, 16, 4, 4, (128, 132)),
            ("never lowers max", (64, 300), 64, 16, 4, 4, (80, 300)),
            ("a max that is high already is no jump", (32, 300), 32, 200, 4, 64, (232, 296 + 4)),
        ];
        for (name, now, current, step, still, band, want) in table {
            let now = Limits { high: mib(now.0), max: mib(now.1) };
            let law = Law::default();
            let got = grow(&law, bounds, now, mib(current), mib(step), mib(still), |_| mib(band));
            assert_eq!(got, Limits { high: mib(want.0), max: mib(want.1) }, "{name}");
        }
    }
}
