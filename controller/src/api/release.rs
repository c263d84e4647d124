//! Releases: uploads, publishing, listing, deleting.

use std::sync::Arc;

use comber_model::release::Release;
use comber_model::{Digest, Invalid, ReleaseId, wire};
use comber_proto::release::v1::release_service_server::ReleaseService;
use comber_proto::release::v1::{
    DeleteReleaseRequest, DeleteReleaseResponse, GetReleaseRequest, GetReleaseResponse,
    ListReleasesRequest, ListReleasesResponse, PublishReleaseRequest, PublishReleaseResponse,
    StatUploadRequest, StatUploadResponse, UploadRequest, UploadResponse,
};
use tonic::{Request, Response, Status, Streaming};

use super::{access, status, view};
use crate::artifact::Artifacts;
use crate::core::{Core, CoreError};

/// The service.
#[derive(Debug)]
pub(super) struct Releases {
    core: Core,
    artifacts: Arc<Artifacts>,
}

impl Releases {
    /// Releases of this core, with their bytes there.
    pub(super) fn new(core: Core, artifacts: Arc<Artifacts>) -> Self {
        Self { core, artifacts }
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
        let mut pieces = request.into_inner();
        let first = pieces.message().await?;
        let missing = || status::invalid(&Invalid::new("start", "is missing in the first message"));
        let first = first.ok_or_else(missing)?;
        let start = first.start.ok_or_else(missing)?;
        let digest = digest(&start.digest)?;
        let mut upload = self
            .artifacts
            .upload(digest, start.carried_length, start.offset)
            .await?;
        let mut data = first.data;
        loop {
            upload.append(&data).await?;
            match pieces.message().await {
                Ok(Some(piece)) => data = piece.data,
                Ok(None) => break,
                // Broken off: what came is kept, to be resumed from.
                Err(status) => {
                    upload.finish().await?;
                    return Err(status);
                }
            }
        }
        let received = upload.finish().await?;
        Ok(Response::new(UploadResponse { received }))
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
        let published = self.core.publish_release(release).await;
        if published.is_err() {
            self.forget_unused(digest).await?;
        }
        let already = published?;
        let world = self.core.read().await;
        let missing = || CoreError::missing("release", &id);
        let release = world.input.releases.get(&id).ok_or_else(missing)?;
        let release = Some(view::release(&world.input, release));
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
            .map(|r| view::release(&world.input, r))
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
        let release = Some(view::release(&world.input, release));
        Ok(Response::new(GetReleaseResponse { release }))
    }

    async fn delete_release(
        &self,
        request: Request<DeleteReleaseRequest>,
    ) -> Result<Response<DeleteReleaseResponse>, Status> {
        let actor = access::operator(&request)?;
        let id = parse(&request.into_inner().id)?;
        let digest = self.core.delete_release(&id, &actor).await?;
        self.forget_unused(digest).await?;
        Ok(Response::new(DeleteReleaseResponse {}))
    }
}

impl Releases {
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
