//! `comber repo verify`: looks at a repository as a host would that knows nothing but a root.

use std::path::PathBuf;

use clap::Args;
use comber_trust::{Directory, Listing, Record};
use serde::Serialize;

use super::workshop::{RepoArg, place};
use crate::error::{CliError, Outcome};
use crate::exit::Exit;
use crate::render;
use crate::session::Session;

/// Verifies metadata from a root on, and says what it lists. Needs no key and no controller.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber repo verify
  comber repo verify /media/usb/repository --root 1.root.json")]
pub(crate) struct VerifyArgs {
    /// An exported repository, in place of one's own
    dir: Option<PathBuf>,
    /// Root to begin with [default: the repository's own first one]
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    #[command(flatten)]
    repo: RepoArg,
}

#[derive(Debug, Serialize)]
struct Verified {
    root_sha256: String,
    versions: [u64; 4],
    expires: String,
    releases: Vec<Release>,
}

#[derive(Debug, Serialize)]
struct Release {
    id: String,
    counter: u64,
    sha256: String,
    floor: u64,
}

pub(super) async fn run(args: &VerifyArgs, session: &Session) -> Outcome<()> {
    let dir = args
        .dir
        .clone()
        .unwrap_or_else(|| place(&args.repo, session));
    let metadata = dir.join("metadata");
    let own = metadata.join("1.root.json");
    let (root, _) = crate::toml_file::read(args.root.as_ref().unwrap_or(&own))?;
    let refused = || CliError::new(Exit::Refused, format!("{} does not verify", dir.display()));
    let facts = comber_trust::look_at_root(&root).map_err(|e| refused().caused_by(&e))?;
    let (mut record, now) = (Record::pinned(root), session.clock.wall());
    let looked = comber_trust::look(&mut record, &Directory(metadata), now).await;
    let listing = looked.map_err(|error| refused().caused_by(&error))?;
    let verified = Verified::new(&listing, facts.sha256);
    session.screen.show(|| &verified, |_| verified.told())
}

impl Verified {
    fn new(listing: &Listing, root_sha256: String) -> Self {
        let releases = listing.releases.iter().map(|(id, entry)| Release {
            id: id.to_string(),
            counter: entry.signed.counter,
            sha256: render::hex(&entry.sha256),
            floor: listing.floors.get(&id.name).copied().unwrap_or(0),
        });
        Self {
            root_sha256,
            versions: listing.versions,
            expires: render::instant(listing.expires),
            releases: releases.collect(),
        }
    }

    fn told(&self) -> String {
        let [root, timestamp, snapshot, targets] = self.versions;
        let mut text = format!(
            "verified from the root with sha256 {}\nroot {root}, timestamp {timestamp}, snapshot {snapshot}, targets {targets}; \
             the first of them ends at {}\n",
            self.root_sha256, self.expires
        );
        for Release {
            id, counter, floor, ..
        } in &self.releases
        {
            let below = if counter < floor {
                ", below the floor"
            } else {
                ""
            };
            let line = format!("  {id}, counter {counter}{below}\n");
            text.push_str(&line);
        }
        text
    }
}
