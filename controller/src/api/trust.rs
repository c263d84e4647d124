//! The publisher's metadata: import and a look at it.
//!
//! The files come as a stream, bounded, into memory; the same verifier that hosts use looks at them from the pinned root
//! on. Invariant: what is kept verified here, and nothing is kept in part.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use comber_model::{Digest, Invalid, ReleaseId};
use comber_proto::trust::v1 as wire;
use comber_proto::trust::v1::trust_service_server::TrustService;
use comber_runtime::clock::Clock;
use comber_runtime::telemetry::error_chain;
use comber_trust::{Fetching, Listing, Source, VerifyError, limit_of};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use tonic::{Request, Response, Status, Streaming};

use super::{Parts, access, status, view};
use crate::core::{Core, Kept, Trusted};

/// Files of one import: the roots since the last one, and three others.
const FILES_MAX: usize = 300;
/// Bytes of one import: a list of 10,000 releases has 5 MB.
const BYTES_MAX: usize = 24 << 20;
/// Longest name, `18446744073709551615.snapshot.json`.
const NAME_MAX: usize = 40;
/// An import of which nothing came for so long is over.
const IDLE: Duration = Duration::from_mins(1);

/// The service.
#[derive(Debug)]
pub(super) struct Trust {
    core: Core,
    clock: Clock,
    scratch: PathBuf,
    /// The verifier's scratch directory serves one at a time.
    importing: Mutex<()>,
}

/// Files by name.
#[derive(Debug, Default)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Source for Files {
    fn fetch<'a>(&'a self, name: &'a str) -> Fetching<'a> {
        let found = self.0.get(name).cloned();
        Box::pin(async move { Ok::<_, io::Error>(found) })
    }
}

impl Files {
    fn text(&self, name: &str) -> Result<String, Status> {
        let missing = || status::invalid(&Invalid::new("name", format!("{name} is missing")));
        let bytes = self.0.get(name).ok_or_else(missing)?;
        let not_text = |_| status::invalid(&Invalid::new("data", format!("{name} is not text")));
        String::from_utf8(bytes.clone()).map_err(not_text)
    }

    /// The lowest root that came.
    fn first_root(&self) -> Option<u64> {
        let versions = self.0.keys().filter_map(|name| {
            let number = name.strip_suffix(".root.json")?;
            number.parse::<u64>().ok()
        });
        versions.min()
    }
}

impl Trust {
    /// Over that core; verifies in a directory of its own.
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            core: parts.core.clone(),
            clock: parts.clock.clone(),
            scratch: parts.scratch.clone(),
            importing: Mutex::default(),
        }
    }

    /// What the files are verified from.
    fn base(
        &self,
        before: Option<&Trusted>,
        pin: bool,
        files: &Files,
        actor: &str,
    ) -> Result<Kept, Status> {
        if let Some(before) = before {
            return Ok(before.kept.clone());
        }
        if !pin {
            return Err(Status::failed_precondition(
                "no publisher's root is pinned here: compare its sha256 with the publisher's, then import with --pin, or name \
                 its file as trust.root in the controller's configuration",
            ));
        }
        let version = files.first_root();
        let name = format!("{}.root.json", version.unwrap_or(1));
        let root = files.text(&name)?;
        pinned(&root, self.clock.wall(), actor)
            .map_err(|error| Status::failed_precondition(format!("{name}: {error}")))
    }

    async fn verify(&self, base: Kept, files: Files) -> Result<(Kept, Listing), Status> {
        let (record, now) = (base.record(), self.clock.wall());
        let files = Arc::new(files);
        let source = Arc::clone(&files) as Arc<dyn Source>;
        let (next, listing) = comber_trust::advance(&record, &self.scratch, source, now)
            .await
            .map_err(|error| refused(&error))?;
        let [root, _, snapshot, targets] = listing.versions;
        let mut roots = base.roots;
        let known = roots.last_key_value().map_or(0, |(version, _)| *version);
        for version in known.saturating_add(1)..=root {
            roots.insert(version, files.text(&format!("{version}.root.json"))?);
        }
        let kept = Kept {
            roots,
            timestamp: Some(files.text("timestamp.json")?),
            snapshot: Some(files.text(&format!("{snapshot}.snapshot.json"))?),
            targets: Some(files.text(&format!("{targets}.targets.json"))?),
            trusted_at: next.trusted_at,
            ..base
        };
        Ok((kept, listing))
    }
}

/// A root as the beginning of trust, with everybody's way to compare it.
pub(crate) fn pinned(root: &str, now: jiff::Timestamp, actor: &str) -> Result<Kept, VerifyError> {
    let facts = comber_trust::look_at_root(root)?;
    let sha256 = Digest(Sha256::digest(root.as_bytes()).into());
    Ok(Kept::pinned(
        sha256,
        (facts.version, root.to_owned()),
        now,
        actor,
    ))
}

#[tonic::async_trait]
impl TrustService for Trust {
    async fn import_repository(
        &self,
        request: Request<Streaming<wire::ImportRepositoryRequest>>,
    ) -> Result<Response<wire::ImportRepositoryResponse>, Status> {
        let actor = access::operator(&request)?;
        let (pin, files) = gather(request.into_inner()).await?;
        let _alone = self.importing.lock().await;
        let before = self.core.read().await.trust.clone();
        let base = self.base(before.as_deref(), pin, &files, &actor)?;
        let (verified, listing) = self.verify(base, files).await?;
        let same = before.as_ref().is_some_and(|before| {
            let kept = &before.kept;
            kept.timestamp == verified.timestamp && kept.roots == verified.roots
        });
        let listed = ids(before.as_ref().and_then(|before| before.listing.as_ref()));
        let now_listed = ids(Some(&listing));
        if !same {
            let kept = Kept {
                imported_at: self.clock.wall(),
                imported_by: actor,
                ..verified
            };
            self.core.keep_trust(before, kept).await?;
        }
        let difference = |a: &BTreeSet<ReleaseId>, b: &BTreeSet<ReleaseId>| {
            a.difference(b).map(ToString::to_string).collect()
        };
        Ok(Response::new(wire::ImportRepositoryResponse {
            repository: view::repository(&*self.core.read().await),
            changed: !same,
            listed: difference(&now_listed, &listed),
            withdrawn: difference(&listed, &now_listed),
        }))
    }

    async fn get_repository(
        &self,
        _request: Request<wire::GetRepositoryRequest>,
    ) -> Result<Response<wire::GetRepositoryResponse>, Status> {
        let repository = view::repository(&*self.core.read().await);
        Ok(Response::new(wire::GetRepositoryResponse { repository }))
    }
}

fn ids(listing: Option<&Listing>) -> BTreeSet<ReleaseId> {
    let releases = listing
        .into_iter()
        .flat_map(|listing| listing.releases.keys());
    releases.cloned().collect()
}

/// Takes the files in, within the limits of each and of all.
async fn gather(
    mut pieces: Streaming<wire::ImportRepositoryRequest>,
) -> Result<(bool, Files), Status> {
    let mut files = Files::default();
    let (mut pin, mut bytes) = (false, 0_usize);
    loop {
        let idle = |_| Status::deadline_exceeded("nothing came for a minute; import again");
        let next = tokio::time::timeout(IDLE, pieces.message()).await;
        let Some(piece) = next.map_err(idle)?? else {
            return Ok((pin, files));
        };
        pin |= piece.start.is_some_and(|start| start.pin);
        if piece.name.is_empty() {
            continue;
        }
        bytes = bytes.saturating_add(piece.data.len());
        let is_new = !files.0.contains_key(&piece.name);
        if piece.name.len() > NAME_MAX || bytes > BYTES_MAX || is_new && files.0.len() >= FILES_MAX
        {
            return Err(status::invalid(&Invalid::new(
                "data",
                format!("an import has at most {FILES_MAX} files and {BYTES_MAX} bytes"),
            )));
        }
        let limit = usize::try_from(limit_of(&piece.name)).unwrap_or(usize::MAX);
        let file = files.0.entry(piece.name.clone()).or_default();
        file.extend(piece.data);
        if file.len() > limit {
            let problem = format!("{} has more than {limit} bytes", piece.name);
            return Err(status::invalid(&Invalid::new("data", problem)));
        }
    }
}

/// The rule that was broken, for people.
fn refused(error: &VerifyError) -> Status {
    let text = error_chain(error);
    match error {
        VerifyError::Io { .. } => {
            tracing::error!(error = text, "metadata cannot be verified");
            Status::internal(text)
        }
        VerifyError::Record(_)
        | VerifyError::Expired { .. }
        | VerifyError::Older { .. }
        | VerifyError::Away(_)
        | VerifyError::Unwalked
        | VerifyError::Refused(_)
        | VerifyError::TooLong { .. }
        | VerifyError::Behind
        | VerifyError::Root
        | VerifyError::Content(_) => {
            Status::failed_precondition(format!("the metadata is refused: {text}"))
        }
    }
}
