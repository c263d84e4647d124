//! `comber repo import|status`: what a publisher published, verified and kept by a controller.
//!
//! Reads a repository's directory, sends its metadata, then the bundles that are listed and not there yet. Invariant: the
//! controller decides what verifies; a broken import leaves it with what it had.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use comber_proto::trust::v1::{
    GetRepositoryRequest, ImportRepositoryRequest, ImportRepositoryResponse, ImportStart, Listed,
    Repository,
};
use serde::Serialize;

use super::workshop::{RepoArg, Workshop, place};
use crate::client::Client;
use crate::cmd::release::{publish_bundle, upload};
use crate::error::{CliError, Outcome, failed};
use crate::render::{self, json};
use crate::session::Session;

/// The most that the protocol allows in one message.
const PIECE: usize = 256 << 10;

/// Sends the published metadata to the controller, which verifies it from the root that it pinned, and the bundles of listed
/// releases that it does not have.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber repo import
  comber repo import --pin
  comber repo import /media/usb/repository")]
pub(crate) struct ImportArgs {
    /// An exported repository, in place of one's own
    dir: Option<PathBuf>,
    /// Where the controller knows no root yet, it pins the first one of this repository
    #[arg(long)]
    pin: bool,
    #[command(flatten)]
    repo: RepoArg,
}

/// Shows what the controller keeps of the publisher's metadata: versions, ends, listed releases and floors.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber repo status")]
pub(crate) struct StatusArgs {}

/// The files of an import.
#[derive(Debug)]
pub(crate) struct Import {
    files: BTreeMap<String, Vec<u8>>,
}

impl Import {
    /// The metadata in a repository's directory.
    pub(crate) fn of(dir: &Path) -> Outcome<Self> {
        let metadata = dir.join("metadata");
        let cannot = |path: &Path, error: &std::io::Error| {
            CliError::configuration(format!("cannot read {}", path.display()))
                .because(error.to_string())
                .hint("a repository is a directory with metadata/ and targets/")
        };
        let entries = fs::read_dir(&metadata).map_err(|error| cannot(&metadata, &error))?;
        let mut files = BTreeMap::new();
        for entry in entries {
            let entry = entry.map_err(|error| cannot(&metadata, &error))?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with('.') || Path::new(&name).extension() != Some("json".as_ref()) {
                continue;
            }
            let bytes = fs::read(entry.path()).map_err(|error| cannot(&entry.path(), &error))?;
            files.insert(name, bytes);
        }
        Ok(Self {
            files: newest(files),
        })
    }

    fn pieces(self, pin: bool) -> Vec<ImportRepositoryRequest> {
        let mut pieces = vec![ImportRepositoryRequest {
            start: Some(ImportStart { pin }),
            ..ImportRepositoryRequest::default()
        }];
        for (name, bytes) in self.files {
            pieces.extend(bytes.chunks(PIECE).map(|data| ImportRepositoryRequest {
                start: None,
                name: name.clone(),
                data: data.to_vec(),
            }));
        }
        pieces
    }
}

/// All roots, and of the lists and snapshots the newest two: what the timestamp names is among them, and an import has a
/// bounded size however long the repository has been kept.
fn newest(files: BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    let version = |name: &str| -> u64 {
        let number = name.split('.').next().unwrap_or_default();
        number.parse().unwrap_or(0)
    };
    let highest = |role: &str| {
        let versions = files.keys().filter(|name| name.ends_with(role));
        versions.map(|name| version(name)).max().unwrap_or(0)
    };
    let least = |role: &str| highest(role).saturating_sub(1);
    let (snapshots, targets) = (least(".snapshot.json"), least(".targets.json"));
    let wanted = |name: &str| {
        (!name.ends_with(".snapshot.json") || version(name) >= snapshots)
            && (!name.ends_with(".targets.json") || version(name) >= targets)
    };
    files.into_iter().filter(|(name, _)| wanted(name)).collect()
}

/// Sends the files; what the controller kept of them.
pub(crate) async fn import(
    client: &Client,
    files: Import,
    pin: bool,
) -> Outcome<ImportRepositoryResponse> {
    let stream = tokio_stream::iter(files.pieces(pin));
    let answer = client.trust().import_repository(stream).await;
    client.answered("import the repository", answer)
}

#[derive(Debug, Serialize)]
struct Imported {
    changed: bool,
    listed: Vec<String>,
    withdrawn: Vec<String>,
    uploaded: Vec<String>,
    /// Listed, and neither at the controller nor in the directory.
    missing: Vec<String>,
    repository: Option<json::Repository>,
}

pub(super) async fn run(args: &ImportArgs, session: &Session) -> Outcome<()> {
    let dir = args
        .dir
        .clone()
        .unwrap_or_else(|| place(&args.repo, session));
    // One's own is not read while another command publishes to it.
    let _workshop = match &args.dir {
        Some(_) => None,
        None => Some(Workshop::open(&args.repo, session)?),
    };
    let files = Import::of(&dir)?;
    let client = session.client().await?;
    let answer = import(&client, files, args.pin).await?;
    let repository = answer.repository.clone().unwrap_or_default();
    let (mut uploaded, mut missing) = (Vec::new(), Vec::new());
    for listed in repository
        .releases
        .iter()
        .filter(|listed| !listed.published)
    {
        let target = target(&dir, listed);
        if target.exists() {
            send(&client, &target, session).await?;
            uploaded.push(listed.id.clone());
        } else {
            missing.push(listed.id.clone());
        }
    }
    let done = Imported {
        changed: answer.changed,
        listed: answer.listed,
        withdrawn: answer.withdrawn,
        uploaded,
        missing,
        repository: answer.repository.as_ref().map(json::Repository::from),
    };
    session.screen.show(|| &done, |_| told(&done))
}

fn target(dir: &Path, listed: &Listed) -> PathBuf {
    let name = format!(
        "{}.{}.rel",
        render::hex(&listed.digest),
        listed.id.replace('@', "-")
    );
    dir.join("targets").join(name)
}

/// Compresses a target for its way, and publishes it.
async fn send(client: &Client, target: &Path, session: &Session) -> Outcome<()> {
    let dir =
        tempfile::tempdir().map_err(|error| failed("cannot make a temporary directory")(&error))?;
    let carried = dir.path().join("bundle");
    let artifact = comber_bundle::carry(target, &carried)
        .map_err(|error| failed(format!("cannot read {}", target.display()))(&error))?;
    upload(client, &carried, artifact, session).await?;
    publish_bundle(client, artifact).await.map(drop)
}

fn told(done: &Imported) -> String {
    let mut text = if done.changed {
        "the controller verified and keeps the publisher's metadata\n".to_owned()
    } else {
        "the controller had this metadata already\n".to_owned()
    };
    for (what, ids) in [
        ("listed now", &done.listed),
        ("not listed any more", &done.withdrawn),
        ("uploaded", &done.uploaded),
        ("listed, and its bundle is in neither place", &done.missing),
    ] {
        if !ids.is_empty() {
            let line = format!("  {what}: {}\n", ids.join(" "));
            text.push_str(&line);
        }
    }
    text
}

pub(super) async fn status(_args: &StatusArgs, session: &Session) -> Outcome<()> {
    let client = session.client().await?;
    let answer = client.trust().get_repository(GetRepositoryRequest {}).await;
    let answer = client.answered("show the repository", answer)?;
    let repository: Option<Repository> = answer.repository;
    session.screen.show(
        || Status {
            repository: repository.as_ref().map(json::Repository::from),
        },
        |view| render::repository(view, repository.as_ref()),
    )
}

#[derive(Debug, Serialize)]
struct Status {
    /// Null where no root is pinned.
    repository: Option<json::Repository>,
}
