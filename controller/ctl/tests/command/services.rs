//! What the controller of a test answers: by script where a test sets one, with plain defaults elsewhere.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use comber_proto::enrolment::v1 as enrolment;
use comber_proto::event::v1 as event;
use comber_proto::host::v1 as host;
use comber_proto::release::v1 as release;
use comber_proto::rollout::v1 as rollout;
use comber_proto::trust::v1 as trust;
use comber_runtime::clock::Clock;
use comber_runtime::token::Token;
use futures_util::{Stream, StreamExt as _};
use rcgen::{CertificateSigningRequestParams, Issuer, KeyPair, SanType};
use tonic::{Request, Response, Status, Streaming};

/// What is answered, and what was asked.
#[derive(Clone, Default)]
pub(crate) struct Script {
    /// How long ago certificates were issued; they live for a day.
    pub(crate) issued_ago: Duration,
    /// Uploads that break off after their first message.
    pub(crate) upload_breaks: u32,
    /// Bytes that arrived.
    pub(crate) uploaded: Vec<u8>,
    /// Where each upload began.
    pub(crate) offsets: Vec<u64>,
    /// Metadata files that arrived.
    pub(crate) imported: Vec<String>,
    /// What watches bring, over as many connections as there are breaks.
    pub(crate) watch: VecDeque<Step>,
    /// Failed hosts.
    pub(crate) members: Vec<rollout::Member>,
    /// What waiting for the fence brings.
    pub(crate) fence: VecDeque<Result<rollout::AwaitFenceResponse, Status>>,
    /// True: the rollout is aborted already.
    pub(crate) aborted: bool,
    /// What listing hosts answers, where it is refused.
    pub(crate) hosts: Option<Status>,
}

/// One thing that a watch brings.
#[derive(Clone)]
pub(crate) enum Step {
    /// The rollout.
    Rollout(Box<rollout::Rollout>),
    /// The end of the connection.
    Break(Status),
    /// Nothing for ever.
    Wait,
}

/// All services.
#[derive(Clone)]
pub(crate) struct Fake {
    script: Arc<Mutex<Script>>,
    issuer: Arc<Issuer<'static, KeyPair>>,
    ca: String,
    token: Token,
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

macro_rules! unscripted {
    ($($name:ident($request:ty) -> $response:ty;)*) => {$(
        fn $name<'life, 'async_trait>(
            &'life self,
            _: Request<$request>,
        ) -> Pin<Box<dyn Future<Output = Result<Response<$response>, Status>> + Send + 'async_trait>>
        where
            'life: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(async { Err(Status::unimplemented("no test asks for this")) })
        }
    )*};
}

impl Fake {
    pub(crate) fn new(
        script: Arc<Mutex<Script>>,
        issuer: Issuer<'static, KeyPair>,
        ca: String,
        token: Token,
    ) -> Self {
        Self {
            script,
            issuer: Arc::new(issuer),
            ca,
            token,
        }
    }

    fn issue(&self, csr: &str, name: &str) -> String {
        let mut csr = CertificateSigningRequestParams::from_pem(csr).unwrap();
        let uri = format!("spiffe://comber/operator/{name}");
        csr.params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
        let issued = Clock::system().wall() - self.script.lock().unwrap().issued_ago;
        let issued = rcgen::date_time_ymd(1970, 1, 1)
            + Duration::from_secs(issued.as_second().try_into().unwrap());
        csr.params.not_before = issued - Duration::from_mins(5);
        csr.params.not_after = issued + Duration::from_hours(24);
        csr.signed_by(&self.issuer).unwrap().pem()
    }
}

#[tonic::async_trait]
impl enrolment::enrolment_service_server::EnrolmentService for Fake {
    async fn enrol(
        &self,
        request: Request<enrolment::EnrolRequest>,
    ) -> Result<Response<enrolment::EnrolResponse>, Status> {
        let request = request.into_inner();
        if request.secret != self.token.secret() {
            return Err(Status::unauthenticated("the token is not known"));
        }
        let certificate_chain = self.issue(&request.signing_request, &request.name);
        Ok(Response::new(enrolment::EnrolResponse {
            certificate_chain,
            ca: self.ca.clone(),
            release_root: String::new(),
        }))
    }

    async fn renew(
        &self,
        request: Request<enrolment::RenewRequest>,
    ) -> Result<Response<enrolment::RenewResponse>, Status> {
        let certificate_chain = self.issue(&request.into_inner().signing_request, "anna");
        Ok(Response::new(enrolment::RenewResponse {
            certificate_chain,
            ca: self.ca.clone(),
        }))
    }

    unscripted! {
        create_token(enrolment::CreateTokenRequest) -> enrolment::CreateTokenResponse;
        list_tokens(enrolment::ListTokensRequest) -> enrolment::ListTokensResponse;
        revoke_certificate(enrolment::RevokeCertificateRequest) -> enrolment::RevokeCertificateResponse;
        revoke_token(enrolment::RevokeTokenRequest) -> enrolment::RevokeTokenResponse;
    }
}

#[tonic::async_trait]
impl host::host_service_server::HostService for Fake {
    async fn list_hosts(
        &self,
        _: Request<host::ListHostsRequest>,
    ) -> Result<Response<host::ListHostsResponse>, Status> {
        match self.script.lock().unwrap().hosts.clone() {
            Some(status) => Err(status),
            None => Ok(Response::new(host::ListHostsResponse::default())),
        }
    }

    async fn get_host(
        &self,
        request: Request<host::GetHostRequest>,
    ) -> Result<Response<host::GetHostResponse>, Status> {
        Err(Status::not_found(format!(
            "there is no host {}",
            request.into_inner().id
        )))
    }

    unscripted! {
        label_hosts(host::LabelHostsRequest) -> host::LabelHostsResponse;
        retire_host(host::RetireHostRequest) -> host::RetireHostResponse;
        revoke_host(host::RevokeHostRequest) -> host::RevokeHostResponse;
        resolve_host(host::ResolveHostRequest) -> host::ResolveHostResponse;
        explain_host(host::ExplainHostRequest) -> host::ExplainHostResponse;
        list_packages(host::ListPackagesRequest) -> host::ListPackagesResponse;
    }
}

#[tonic::async_trait]
impl release::release_service_server::ReleaseService for Fake {
    async fn stat_upload(
        &self,
        request: Request<release::StatUploadRequest>,
    ) -> Result<Response<release::StatUploadResponse>, Status> {
        let received = self.script.lock().unwrap().uploaded.len() as u64;
        let complete = received == request.into_inner().carried_length;
        Ok(Response::new(release::StatUploadResponse {
            received,
            complete,
        }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<release::UploadRequest>>,
    ) -> Result<Response<release::UploadResponse>, Status> {
        let mut messages = request.into_inner();
        while let Some(message) = messages.message().await? {
            let mut script = self.script.lock().unwrap();
            if let Some(start) = message.start {
                assert_eq!(start.offset, script.uploaded.len() as u64);
                script.offsets.push(start.offset);
            }
            script.uploaded.extend(message.data);
            if script.upload_breaks > 0 {
                script.upload_breaks -= 1;
                return Err(Status::unavailable("the controller stops"));
            }
        }
        let received = self.script.lock().unwrap().uploaded.len() as u64;
        Ok(Response::new(release::UploadResponse { received }))
    }

    async fn publish_release(
        &self,
        request: Request<release::PublishReleaseRequest>,
    ) -> Result<Response<release::PublishReleaseResponse>, Status> {
        let digest = request.into_inner().digest;
        let release = release::Release {
            id: "webapp@2".to_owned(),
            digest,
            ..release::Release::default()
        };
        Ok(Response::new(release::PublishReleaseResponse {
            release: Some(release),
            already: false,
        }))
    }

    unscripted! {
        list_releases(release::ListReleasesRequest) -> release::ListReleasesResponse;
        get_release(release::GetReleaseRequest) -> release::GetReleaseResponse;
        delete_release(release::DeleteReleaseRequest) -> release::DeleteReleaseResponse;
    }
}

#[tonic::async_trait]
impl trust::trust_service_server::TrustService for Fake {
    async fn import_repository(
        &self,
        request: Request<Streaming<trust::ImportRepositoryRequest>>,
    ) -> Result<Response<trust::ImportRepositoryResponse>, Status> {
        let mut pieces = request.into_inner();
        while let Some(piece) = pieces.message().await? {
            let mut script = self.script.lock().unwrap();
            if !piece.name.is_empty() && !script.imported.contains(&piece.name) {
                script.imported.push(piece.name);
            }
        }
        Ok(Response::new(trust::ImportRepositoryResponse {
            changed: true,
            ..trust::ImportRepositoryResponse::default()
        }))
    }

    async fn get_repository(
        &self,
        _request: Request<trust::GetRepositoryRequest>,
    ) -> Result<Response<trust::GetRepositoryResponse>, Status> {
        Ok(Response::new(trust::GetRepositoryResponse::default()))
    }
}

#[tonic::async_trait]
impl event::event_service_server::EventService for Fake {
    type WatchEventsStream = Messages<event::WatchEventsResponse>;

    async fn watch_events(
        &self,
        request: Request<event::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        Ok(Response::new(if request.into_inner().follow {
            futures_util::stream::pending().boxed()
        } else {
            futures_util::stream::empty().boxed()
        }))
    }
}

#[tonic::async_trait]
impl rollout::rollout_service_server::RolloutService for Fake {
    type AwaitFenceStream = Messages<rollout::AwaitFenceResponse>;
    type WatchRolloutStream = Messages<rollout::WatchRolloutResponse>;

    async fn watch_rollout(
        &self,
        _: Request<rollout::WatchRolloutRequest>,
    ) -> Result<Response<Self::WatchRolloutStream>, Status> {
        let script = Arc::clone(&self.script);
        let steps = futures_util::stream::unfold(script, |script| async move {
            let step = script
                .lock()
                .unwrap()
                .watch
                .pop_front()
                .unwrap_or(Step::Wait);
            let item = match step {
                Step::Rollout(rollout) => Ok(rollout::WatchRolloutResponse {
                    rollout: Some(*rollout),
                }),
                Step::Break(status) => Err(status),
                Step::Wait => std::future::pending().await,
            };
            Some((item, script))
        });
        Ok(Response::new(steps.boxed()))
    }

    async fn await_fence(
        &self,
        _: Request<rollout::AwaitFenceRequest>,
    ) -> Result<Response<Self::AwaitFenceStream>, Status> {
        let script = Arc::clone(&self.script);
        let next = move || script.lock().unwrap().fence.pop_front();
        Ok(Response::new(
            futures_util::stream::iter(std::iter::from_fn(next)).boxed(),
        ))
    }

    async fn abort_rollout(
        &self,
        _: Request<rollout::AbortRolloutRequest>,
    ) -> Result<Response<rollout::AbortRolloutResponse>, Status> {
        if self.script.lock().unwrap().aborted {
            return Err(Status::failed_precondition("r7 is aborted already"));
        }
        Ok(Response::new(rollout::AbortRolloutResponse {
            rollout: Some(crate::rollout(rollout::RolloutState::Aborted, 0, 0)),
        }))
    }

    async fn roll_back_rollout(
        &self,
        _: Request<rollout::RollBackRolloutRequest>,
    ) -> Result<Response<rollout::RollBackRolloutResponse>, Status> {
        Ok(Response::new(rollout::RollBackRolloutResponse {
            rollout: Some(crate::rollout(rollout::RolloutState::RollingBack, 0, 0)),
        }))
    }

    async fn get_rollout(
        &self,
        _: Request<rollout::GetRolloutRequest>,
    ) -> Result<Response<rollout::GetRolloutResponse>, Status> {
        Ok(Response::new(rollout::GetRolloutResponse {
            rollout: Some(crate::rollout(rollout::RolloutState::Aborted, 0, 0)),
        }))
    }

    async fn list_members(
        &self,
        _: Request<rollout::ListMembersRequest>,
    ) -> Result<Response<rollout::ListMembersResponse>, Status> {
        let members = self.script.lock().unwrap().members.clone();
        Ok(Response::new(rollout::ListMembersResponse {
            members,
            next_page_token: String::new(),
        }))
    }

    async fn explain_rollout(
        &self,
        _: Request<rollout::ExplainRolloutRequest>,
    ) -> Result<Response<rollout::ExplainRolloutResponse>, Status> {
        Ok(Response::new(rollout::ExplainRolloutResponse::default()))
    }

    unscripted! {
        preview_rollout(rollout::PreviewRolloutRequest) -> rollout::PreviewRolloutResponse;
        create_rollout(rollout::CreateRolloutRequest) -> rollout::CreateRolloutResponse;
        start_rollout(rollout::StartRolloutRequest) -> rollout::StartRolloutResponse;
        pause_rollout(rollout::PauseRolloutRequest) -> rollout::PauseRolloutResponse;
        resume_rollout(rollout::ResumeRolloutRequest) -> rollout::ResumeRolloutResponse;
        list_rollouts(rollout::ListRolloutsRequest) -> rollout::ListRolloutsResponse;
    }
}
