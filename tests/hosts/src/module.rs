//! A product for the `module` installer: one page, put into its place by a module that the release carries.
//!
//! The module keeps what was there in its tree and puts it back, each by one synced rename, as modules should. It writes
//! down every call before it does anything. Invariant: what it wrote down survives a power cut, so that a call which
//! ran twice in one change is seen.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};

use crate::vendor::{Made, Vendor, Wish};
use crate::{Host, HostLab, STATE_DIR};

const MODULE: &str = r#"#!/bin/sh
set -e
echo "$1 VERSION" >>/var/lib/page.calls
sync /var/lib/page.calls
put() {
    cp "$1" "$2.new"
    sync "$2.new"
    mv "$2.new" "$2"
    sync "$(dirname "$2")"
}
case $1 in
    SupportsRollback) echo Yes;;
    NeedsArtifactReboot) echo REBOOT;;
    ArtifactInstall)
        if [ -e /srv/page ]; then put /srv/page tmp/page; else touch tmp/none; sync tmp; fi
        put files/page /srv/page
        ;;
    ArtifactRollback)
        # Without either nothing was changed yet.
        if [ -e tmp/page ]; then put tmp/page /srv/page; fi
        if [ -e tmp/none ]; then rm -f /srv/page; sync /srv; fi
        ;;
esac
exit 0
"#;

/// Calls that must not run twice in one change.
const ONCE: [&str; 2] = ["ArtifactInstall", "ArtifactCommit"];

/// Makes releases of it.
#[derive(Debug, Default)]
pub struct Page {
    number: AtomicU32,
}

impl Page {
    fn write(dir: &Path, version: &str, wish: &Wish) -> Result<()> {
        let files = dir.join("files");
        fs::create_dir_all(&files)?;
        let mut page = format!("{version}\n").into_bytes();
        page.extend(wish.bytes());
        fs::write(files.join("page"), page)?;
        let reboot = if wish.reboot { "Automatic" } else { "No" };
        let module = MODULE.replace("VERSION", version).replace("REBOOT", reboot);
        fs::write(files.join("module"), module)?;
        fs::set_permissions(files.join("module"), fs::Permissions::from_mode(0o755))?;
        let (works, verify) = if wish.good {
            ("", "20s")
        } else {
            ("; exit 1", "2s")
        };
        let manifest = format!(
            "name = \"page\"\nversion = \"{version}\"\n{}\
             [installer]\ntype = \"module\"\nmodule = \"page\"\ncarried = \"module\"\ntimeout = \"30s\"\n\
             [[check]]\nname = \"page\"\ninterval = \"100ms\"\n\
             exec = {{ command = [\"sh\", \"-c\", \"[ $(head -n 1 /srv/page) = {version} ]{works}\"] }}\n\
             [timeouts]\nactivate = \"30s\"\nreboot = \"60s\"\nverify = \"{verify}\"\n",
            wish.head()
        );
        Ok(fs::write(dir.join("release.toml"), manifest)?)
    }
}

impl Vendor for Page {
    fn prepare(&self, _host: &Host) -> Result<()> {
        Ok(())
    }

    fn make(&self, lab: &HostLab, wish: &Wish) -> Result<Made> {
        let version = self.number.fetch_add(1, Ordering::Relaxed).to_string();
        let dir = tempfile::tempdir()?;
        let release = dir.path().join("page");
        Self::write(&release, &version, wish)?;
        lab.lab().publish_directory(&release)?;
        Ok(Made {
            release: format!("page@{version}"),
            version,
        })
    }

    fn installed(&self, host: &Host) -> Result<Option<String>> {
        let Some(page) = host.read("/srv/page") else {
            return Ok(None);
        };
        let mut lines = page.split(|&byte| byte == b'\n');
        let version = lines.next().context("an empty page")?;
        Ok(Some(String::from_utf8(version.to_vec())?))
    }

    fn prove_whole(&self, host: &Host) -> Result<()> {
        if let Some(page) = host.read("/srv/page") {
            let end = page.iter().position(|&byte| byte == b'\n');
            Wish::prove(&page[end.context("a page without a version")? + 1..])?;
        }
        let left = host.shell(&format!(
            "ls -d {STATE_DIR}/shelves/page/module/* 2>/dev/null | grep -v tmp$ || true"
        ))?;
        // On a broken host it is a person's evidence.
        let broken = host
            .ledger()
            .is_some_and(|ledger| !ledger.broken.is_empty());
        ensure!(left.is_empty() || broken, "of the change is left: {left}");
        let calls = host.read("/var/lib/page.calls").context("no calls")?;
        prove_calls(&String::from_utf8_lossy(&calls))
    }

    /// A call of a module that was cut off is never run again.
    fn goes_on(&self) -> bool {
        false
    }
}

/// A change that was cut off may be undone and begun anew, with another permit: then its failure path comes first. What may
/// never be is one of those calls again without that.
fn prove_calls(calls: &str) -> Result<()> {
    let mut made: BTreeSet<&str> = BTreeSet::new();
    for call in calls.lines() {
        let (word, _) = call.split_once(' ').context("a call without a version")?;
        match word {
            // Nothing of an earlier change of that version counts any more.
            "Cleanup" => made.retain(|other| !is_same_version(other, call)),
            _ if ONCE.contains(&word) => ensure!(made.insert(call), "called twice: {call}"),
            _ => {}
        }
    }
    Ok(())
}

fn is_same_version(left: &str, right: &str) -> bool {
    let version = |call: &str| call.rsplit(' ').next().map(str::to_owned);
    version(left) == version(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_may_come_again_only_after_the_end_of_its_change() {
        let whole = "Download 1\nArtifactInstall 1\nArtifactCommit 1\nCleanup 1\n";
        let again = "ArtifactInstall 2\nArtifactRollback 2\nArtifactFailure 2\nCleanup 2\nArtifactInstall 2\n";
        prove_calls(&format!("{whole}{again}")).unwrap();
        for twice in ["ArtifactInstall 1\n", "ArtifactCommit 1\n"] {
            let calls = format!("{twice}ArtifactRollback 1\nCleanup 2\n{twice}");
            let error = prove_calls(&calls).unwrap_err().to_string();
            assert_eq!(error, format!("called twice: {}", twice.trim()));
        }
    }
}
