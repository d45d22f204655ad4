//! The units themselves: understood by this systemd, and how exposed they are.

use crate::rig::{Installed, SUBGROUPS_SINCE, deployed, run, text, version};

/// As `systemd-analyze security` counts, in tenths. `deploy/systemd/bellows.service` weighs each option.
const EXPOSURES: [(&str, u32); 3] =
    [("bellows-tree.service", 25), ("bellows.service", 50), ("one-unit/bellows.service", 57)];

#[test]
fn this_systemd_understands_them() {
    let _installed = Installed::new(&[]);
    for (unit, most) in EXPOSURES {
        let path = deployed(unit).display().to_string();
        let output = run(&["systemd-analyze", "verify", "--man=no", &path]);
        let said = text(&output);
        if version() >= SUBGROUPS_SINCE || !unit.contains('/') {
            assert!(output.status.success() && said.is_empty(), "{unit}: {said}");
        } else {
            assert!(said.contains("DelegateSubgroup") && said.contains("notify-reload"), "{unit}: {said}");
        }
        let threshold = format!("--threshold={most}");
        let output = run(&["systemd-analyze", "security", "--offline=true", "--no-pager", &threshold, &path]);
        let said = text(&output);
        eprintln!("{}", said.lines().last().unwrap_or_default());
        assert!(output.status.success(), "{unit} is more exposed than {most}:\n{said}");
    }
}
