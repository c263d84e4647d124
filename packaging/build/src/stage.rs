//! What cargo-deb and cargo-generate-rpm take: the programs without symbols, and what is made from their command lines.
//!
//! Both know the directory as that of a profile named `package`, and replace `target/release/` in lists of files by it.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{programs::PROGRAMS, sbom, share, succeed};

/// The directory's name, which both tools take for a profile.
pub(crate) const STAGE: &str = "package";

/// The workspace, where this program was built in it.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Makes it anew.
pub(crate) fn stage(target: &Path, quick: bool) -> Result<()> {
    let stage = target.join(STAGE);
    if stage.exists() {
        fs::remove_dir_all(&stage).context("cannot remove an earlier stage")?;
    }
    for program in &PROGRAMS {
        let share = stage.join("share").join(program.name);
        share::write(program, &share)?;
        sbom::write(program, Path::new(ROOT), &share)?;
        // As the policies of all distributions ask, without the time of the build.
        let mut gzip = Command::new("gzip");
        gzip.args(["-9", "--no-name", "--recursive"]);
        succeed(gzip.arg(share.join("man")))?;
        let (from, to) = (program.built(target, quick), stage.join(program.name));
        fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        // The profiles of what is shipped strip by themselves.
        if quick {
            succeed(Command::new("strip").arg(&to))?;
        }
    }
    Ok(())
}
