//! What the three commands do, with the agent's record and loader.
//!
//! Writes below the metadata directory and the directory of targets. Invariant: a target has its name only when its length and
//! sha256 are those that the record lists.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use comber_runtime::fsx;
use comber_trust::{Record, Target, look_at_root, refresh, target};
use jiff::Timestamp;

use crate::http::{Web, get, joined};

/// Longest root that is read from a file.
const ROOT_MAX: u64 = 256 << 10;
/// Longest target: what the suites have is far below, and it is held in memory.
const TARGET_MAX: u64 = 64 << 20;

/// A client with what it trusts.
pub(crate) struct Client {
    dir: PathBuf,
}

/// What is to be downloaded.
pub(crate) struct Targets {
    pub(crate) names: Vec<String>,
    pub(crate) base: String,
    pub(crate) dir: PathBuf,
}

impl Client {
    pub(crate) fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Pins a root.
    pub(crate) fn init(&self, root: &Path) -> Result<()> {
        let text = String::from_utf8(fsx::read_limited(root, ROOT_MAX)?)?;
        look_at_root(&text)?;
        fs::create_dir_all(&self.dir)?;
        Record::pinned(text).save(&self.record())?;
        self.show()
    }

    /// Looks at the repository; whatever moved is shown, also where the look failed.
    pub(crate) async fn refresh(&self, url: &str) -> Result<()> {
        let source = Arc::new(Web(url.to_owned()));
        let now = now()?;
        let looked = refresh(&self.record(), source, now).await;
        let shown = self.show();
        let listing = looked?;
        let [root, timestamp, snapshot, targets] = listing.versions;
        println!("root {root}, timestamp {timestamp}, snapshot {snapshot}, targets {targets}");
        shown
    }

    /// Looks, then fetches.
    pub(crate) async fn download(&self, url: &str, targets: &Targets) -> Result<()> {
        self.refresh(url).await?;
        let record = Record::load(&self.record())?;
        for name in &targets.names {
            let listed = target(&record, name)?;
            let listed = listed.with_context(|| format!("{name:?} is not listed"))?;
            fetch(&listed, name, targets).await?;
        }
        Ok(())
    }

    fn record(&self) -> PathBuf {
        self.dir.join("trust.record")
    }

    fn show(&self) -> Result<()> {
        let record = Record::load(&self.record())?;
        let files = [
            ("root.json", Some(record.root)),
            ("timestamp.json", record.timestamp),
            ("snapshot.json", record.snapshot),
            ("targets.json", record.targets),
        ];
        for (name, text) in files {
            let path = self.dir.join(name);
            match text {
                Some(text) => fs::write(&path, text)?,
                None if path.exists() => fs::remove_file(&path)?,
                None => {}
            }
        }
        Ok(())
    }
}

/// The time. Suites set it for this process alone, in the C library, around which the agent's own clock goes.
#[expect(
    clippy::disallowed_methods,
    reason = "suites set the time in the C library"
)]
fn now() -> Result<Timestamp> {
    Ok(Timestamp::try_from(SystemTime::now())?)
}

async fn fetch(listed: &Target, name: &str, targets: &Targets) -> Result<()> {
    ensure!(
        listed.length <= TARGET_MAX,
        "{name:?} has {} bytes",
        listed.length
    );
    let place = targets.dir.join(file_name(name));
    if fs::read(&place).is_ok_and(|held| is_listed(&held, listed)) {
        return Ok(());
    }
    let bytes = get(&joined(&targets.base, &listed.place), listed.length).await?;
    let bytes = bytes.with_context(|| format!("{name:?} is missing"))?;
    if !is_listed(&bytes, listed) {
        bail!("{name:?} has not the length or the sha256 that is listed");
    }
    fs::create_dir_all(&targets.dir)?;
    Ok(fsx::write_atomic(&place, &bytes, 0o644)?)
}

fn is_listed(bytes: &[u8], listed: &Target) -> bool {
    bytes.len() as u64 == listed.length && digest(&SHA256, bytes).as_ref() == listed.sha256
}

/// One file for one name, whatever is in the name.
fn file_name(name: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    name.bytes()
        .enumerate()
        .map(|(at, byte)| match byte {
            b'.' if at > 0 => ".".to_owned(),
            byte if safe(byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}
