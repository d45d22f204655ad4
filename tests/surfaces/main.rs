//! `bellows-surfaces`: writes what is made from the catalogue of metrics into this repository (`make surfaces`).

use std::fs;
use std::path::Path;

use anyhow::Context;
use bellows_tests::surfaces;

fn main() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    for (path, text) in surfaces::files() {
        let file = root.join(&path);
        fs::create_dir_all(file.parent().context("no directory")?)?;
        fs::write(&file, text).with_context(|| format!("cannot write {path}"))?;
        println!("{path}");
    }
    Ok(())
}
