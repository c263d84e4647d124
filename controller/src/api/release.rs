//! Releases: uploads, publishing, listing, deleting.

use std::sync::Arc;
use std::time::Duration;

use comber_model::release::Release;
use comber_model::{Digest, Invalid, ReleaseId, wire};
use comber_proto::release::v1::release_service_server::ReleaseService;
use comber_proto::release::v1::{
    DeleteReleaseRequest, DeleteReleaseResponse, GetReleaseRequest, GetReleaseResponse,
    ListReleasesRequest, ListReleasesResponse, PublishReleaseRequest, PublishReleaseResponse,
    StatUploadRequest, StatUploadResponse, UploadRequest, UploadResponse,
};
use tokio::sync::Mutex;
use tonic::{Request, Response, Status, Streaming};

use super::{Parts, access, status, view};
use crate::artifact::{Artifacts, Upload};
use crate::core::{Core, CoreError};
use crate::metrics::ServeMetrics;

/// An upload of which nothing came for so long is over; it can be resumed, also by somebody else.
const IDLE: Duration = Duration::from_mins(1);

/// The service.
#[derive(Debug)]
pub(super) struct Releases {
    core: Core,
    artifacts: Arc<Artifacts>,
    metrics: ServeMetrics,
    /// Held while a release appears or goes, so that its record and its bytes do it together.
    recording: Mutex<()>,
}

/// The messages of one upload.
struct Pieces(Streaming<UploadRequest>);

impl Pieces {
    async fn next(&mut self) -> Result<Option<UploadRequest>, Status> {
        let idle = |_| Status::deadline_exceeded("nothing came for a minute; resume the upload");
        tokio::time::timeout(IDLE, self.0.message())
            .await
            .map_err(idle)?
    }
}

impl Releases {
    /// Releases of the core, with their bytes in the directory of artifacts.
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            core: parts.core.clone(),
            artifacts: Arc::clone(&parts.artifacts),
            metrics: parts.metrics.clone(),
            recording: Mutex::default(),
        }
    }
}

#[tonic::async_trait]
impl ReleaseService for Releases {
    async fn stat_upload(
        &self,
        request: Request<StatUploadRequest>,
    ) -> Result<Response<StatUploadResponse>, Status> {
        let request = request.into_inner();
        let digest = digest(&request.digest)?;
        let stat = self.artifacts.stat(digest, request.carried_length)?;
        Ok(Response::new(StatUploadResponse {
            received: stat.received,
            complete: stat.complete,
        }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<UploadRequest>>,
    ) -> Result<Response<UploadResponse>, Status> {
        let mut pieces = Pieces(request.into_inner());
        let missing = || status::invalid(&Invalid::new("start", "is missing in the first message"));
        let first = pieces.next().await?.ok_or_else(missing)?;
        let start = first.start.ok_or_else(missing)?;
        let upload =
            self.artifacts
                .upload(digest(&start.digest)?, start.carried_length, start.offset);
        let taken = self.take(upload.await?, first.data, pieces).await;
        self.metrics
            .uploaded(if taken.is_ok() { "received" } else { "failed" });
        Ok(Response::new(UploadResponse { received: taken? }))
    }

    async fn publish_release(
        &self,
        request: Request<PublishReleaseRequest>,
    ) -> Result<Response<PublishReleaseResponse>, Status> {
        let actor = access::operator(&request)?;
        let digest = digest(&request.into_inner().digest)?;
        let contents = self.artifacts.finish(digest).await?;
        let release = Release {
            manifest: contents.listing.manifest().clone(),
            artifact: contents.artifact,
            published_at: self.core.read().await.now(),
            published_by: actor,
        };
        let id = release.id();
        let already = self.record(release, digest).await?;
        let world = self.core.read().await;
        let missing = || CoreError::missing("release", &id);
        let release = world.input.releases.get(&id).ok_or_else(missing)?;
        let release = Some(view::release(&world, release));
        Ok(Response::new(PublishReleaseResponse { release, already }))
    }

    async fn list_releases(
        &self,
        request: Request<ListReleasesRequest>,
    ) -> Result<Response<ListReleasesResponse>, Status> {
        let name = request.into_inner().name;
        let world = self.core.read().await;
        let all = world.input.releases.values();
        let named = all.filter(|r| name.is_empty() || r.manifest.name.as_str() == name);
        let mut releases: Vec<_> = named.collect();
        releases.sort_by(|a, b| {
            (&a.manifest.name, a.published_at).cmp(&(&b.manifest.name, b.published_at))
        });
        let releases = releases
            .into_iter()
            .map(|r| view::release(&world, r))
            .collect();
        Ok(Response::new(ListReleasesResponse { releases }))
    }

    async fn get_release(
        &self,
        request: Request<GetReleaseRequest>,
    ) -> Result<Response<GetReleaseResponse>, Status> {
        let id = parse(&request.into_inner().id)?;
        let world = self.core.read().await;
        let release = world.input.releases.get(&id);
        let release = release.ok_or_else(|| CoreError::missing("release", &id))?;
        let release = Some(view::release(&world, release));
        Ok(Response::new(GetReleaseResponse { release }))
    }

    async fn delete_release(
        &self,
        request: Request<DeleteReleaseRequest>,
    ) -> Result<Response<DeleteReleaseResponse>, Status> {
        let actor = access::operator(&request)?;
        let id = parse(&request.into_inner().id)?;
        let _alone = self.recording.lock().await;
        let digest = self.core.delete_release(&id, &actor).await?;
        self.forget_unused(digest).await?;
        Ok(Response::new(DeleteReleaseResponse {}))
    }
}

impl Releases {
    /// Takes the pieces in to the last. Where they are broken off, what came is kept, to be resumed from.
    async fn take(
        &self,
        mut upload: Upload,
        first: Vec<u8>,
        mut pieces: Pieces,
    ) -> Result<u64, Status> {
        let mut data = first;
        let ended = loop {
            upload.append(&data).await?;
            self.metrics.received.inc_by(data.len() as u64);
            match pieces.next().await {
                Ok(Some(piece)) => data = piece.data,
                Ok(None) => break Ok(()),
                Err(status) => break Err(status),
            }
        };
        let received = upload.finish().await?;
        ended.map(|()| received)
    }

    /// Makes checked bytes a release. Alone: whoever deletes the same release meanwhile would take its bytes away.
    async fn record(&self, release: Release, digest: Digest) -> Result<bool, Status> {
        let _alone = self.recording.lock().await;
        if self.artifacts.path(digest).is_none() {
            return Err(Status::aborted(
                "the release was deleted while it was published; publish it again",
            ));
        }
        let published = self.core.publish_release(release).await;
        // Whether a controller that stops has recorded it is seen after its restart: the bytes stay.
        if published
            .as_ref()
            .is_err_and(|error| !matches!(error, CoreError::Stopped(_)))
        {
            self.forget_unused(digest).await?;
        }
        Ok(published?)
    }

    /// Removes bytes that no release names any more.
    async fn forget_unused(&self, digest: Digest) -> Result<(), Status> {
        let world = self.core.read().await;
        let named = |release: &Arc<Release>| release.artifact.digest == digest;
        if !world.input.releases.values().any(named) {
            drop(world);
            self.artifacts.remove(digest)?;
        }
        Ok(())
    }
}

fn digest(bytes: &[u8]) -> Result<Digest, Status> {
    wire::digest("digest", bytes).map_err(|error| status::invalid(&error))
}

fn parse(id: &str) -> Result<ReleaseId, Status> {
    id.parse().map_err(|error| status::invalid(&error))
}
