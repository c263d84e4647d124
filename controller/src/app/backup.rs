//! Backup and restore: the store's own backup file, and the CA beside it.
//!
//! Artifacts are not in it: they are immutable and named by digest, so any copying tool keeps them in step, and a
//! release whose bytes are missing can be published again. Invariant: both run as the user whose the data is.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use comber_runtime::fsx;
use rustix::process::geteuid;

use super::control;
use super::serve::{pki_dir, store_dir};
use crate::config::ControllerSettings;
use crate::store::{Options, Store};

/// The store's part of a backup.
const STORE: &str = "store.backup";
/// The CA's part.
const PKI: &str = "pki";
/// Files of the CA are about 1 kB.
const PKI_FILE_MAX: u64 = 64 << 10;

/// Backs up to a new directory, from the running controller or from its store.
pub(super) fn backup(settings: &ControllerSettings, directory: &Path) -> Result<()> {
    ensure!(
        !directory.exists(),
        "{} is there already; name a new directory",
        directory.display()
    );
    by_its_owner(&settings.data_dir)?;
    fsx::create_dir_durable(directory, 0o700)?;
    let directory = directory
        .canonicalize()
        .context("cannot find the new directory")?;
    let path = directory.join(STORE);
    let asked = control::ask(&settings.data_dir, &control::Request::Backup(path.clone()))?;
    let revision = if let Some(revision) = asked {
        revision
    } else {
        let options = Options {
            create: false,
            ..Options::default()
        };
        let store = Store::open(&store_dir(&settings.data_dir), options)?;
        let revision = store.backup(&path).wait()?;
        store.close().map_err(|fatal| anyhow::anyhow!("{fatal}"))?;
        revision.to_string()
    };
    copy(&pki_dir(&settings.data_dir), &directory.join(PKI))?;
    println!(
        "backed up revision {revision} and the CA to {}; copy {} beside it",
        directory.display(),
        settings.artifacts_dir().display()
    );
    Ok(())
}

/// Makes state and CA anew from a backup.
pub(super) fn restore(settings: &ControllerSettings, directory: &Path) -> Result<()> {
    let data = &settings.data_dir;
    by_its_owner(data)?;
    let pki = pki_dir(data);
    ensure!(
        !pki.exists(),
        "{} is there; move {} away first, so that nothing is lost",
        pki.display(),
        data.display()
    );
    fsx::create_dir_durable(data, 0o750)?;
    let revision = Store::restore(
        &directory.join(STORE),
        &store_dir(data),
        &Options::default(),
    )?;
    copy(&directory.join(PKI), &pki)?;
    println!(
        "restored revision {revision} and the CA to {}; copy the artifacts to {}",
        data.display(),
        settings.artifacts_dir().display()
    );
    Ok(())
}

/// Root must not write into directories of another user, who could lead it elsewhere, and would leave files there that the
/// service cannot use.
fn by_its_owner(data_dir: &Path) -> Result<()> {
    let Ok(data) = fs::metadata(data_dir) else {
        return Ok(());
    };
    let (owner, user) = (data.uid(), geteuid().as_raw());
    ensure!(
        owner == user,
        "{} belongs to user {owner}, this is user {user}; run it as that user, where packages made it with: \
         runuser -u comber -- comber-controller ...",
        data_dir.display()
    );
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fsx::create_dir_durable(to, 0o700)?;
    let entries = fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", from.display()))?;
        let bytes = fsx::read_limited(&entry.path(), PKI_FILE_MAX)?;
        fsx::write_atomic(&to.join(entry.file_name()), &bytes, 0o600)?;
    }
    Ok(())
}
