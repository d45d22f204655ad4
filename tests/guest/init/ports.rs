//! Devices by the name that the host gave them: their numbers depend on the order in which drivers found them.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Drivers find their devices in the background after a module was inserted.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(2);

/// Opens the virtio-serial port of that name.
pub(super) fn open_port(name: &str) -> Result<File> {
    let device = find(Path::new("/sys/class/virtio-ports"), "name", name)?;
    let path = Path::new("/dev").join(device);
    OpenOptions::new().read(true).write(true).open(&path).with_context(|| format!("open {}", path.display()))
}

/// The device file of the disk of that serial.
pub(super) fn find_disk(serial: &str) -> Result<String> {
    Ok(format!("/dev/{}", find(Path::new("/sys/block"), "serial", serial)?))
}

/// The entry of `class` whose `attribute` says `value`.
fn find(class: &Path, attribute: &str, value: &str) -> Result<String> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        for entry in fs::read_dir(class).into_iter().flatten().flatten() {
            let said = fs::read_to_string(entry.path().join(attribute)).unwrap_or_default();
            if said.trim() == value {
                return Ok(entry.file_name().to_string_lossy().into_owned());
            }
        }
        std::thread::sleep(PAUSE);
    }
    bail!("no device in {} has the {attribute} `{value}`", class.display())
}
