//! Rollouts: planning, steering, watching, explaining.

use std::pin::Pin;
use std::time::Duration;

use comber_model::rollout::{Member, RolloutSpec};
use comber_model::{HostId, Invalid, RolloutId, wire::time};
use comber_planner::{Command, RolloutView};
use comber_proto::rollout::v1::rollout_service_server::RolloutService;
use comber_proto::rollout::v1::{
    AbortRolloutRequest, AbortRolloutResponse, AwaitFenceRequest, AwaitFenceResponse,
    CreateRolloutRequest, CreateRolloutResponse, ExplainRolloutRequest, ExplainRolloutResponse,
    GetRolloutRequest, GetRolloutResponse, ListMembersRequest, ListMembersResponse,
    ListRolloutsRequest, ListRolloutsResponse, PauseRolloutRequest, PauseRolloutResponse,
    PreviewRolloutRequest, PreviewRolloutResponse, ResumeRolloutRequest, ResumeRolloutResponse,
    RollBackRolloutRequest, RollBackRolloutResponse, Rollout, StartRolloutRequest,
    StartRolloutResponse, WatchRolloutRequest, WatchRolloutResponse,
};
use comber_runtime::shutdown::Shutdown;
use futures_util::{Stream, stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::host::page_size;
use super::{access, status, view};
use crate::core::{Core, CoreError, World};

/// Least pause between two messages of a watch.
const WATCH_PAUSE: Duration = Duration::from_millis(250);
/// A fence is looked at so often even when nothing is heard: it also closes by time alone.
const FENCE_PAUSE: Duration = Duration::from_millis(200);
/// Rollouts of a list that does not say how many.
const LIST: u32 = 100;
/// Hosts named of an open fence.
const FENCE_HOSTS: usize = 100;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service.
#[derive(Debug)]
pub(super) struct Rollouts {
    core: Core,
    shutdown: Shutdown,
}

impl Rollouts {
    /// Rollouts of this core.
    pub(super) fn new(core: Core, shutdown: Shutdown) -> Self {
        Self { core, shutdown }
    }

    async fn steer(
        &self,
        id: &str,
        command: Command,
        actor: &str,
    ) -> Result<Option<Rollout>, Status> {
        let id = parse(id)?;
        self.core.command(id, command, actor).await?;
        self.one(id).await.map(Some)
    }

    async fn one(&self, id: RolloutId) -> Result<Rollout, Status> {
        let world = self.core.read().await;
        let rollout = find(&world, id)?;
        Ok(view::rollout(&world.input, rollout, world.now()))
    }

    fn watcher(&self, id: RolloutId) -> Watcher {
        let (core, shutdown) = (self.core.clone(), self.shutdown.clone());
        Watcher {
            changed: core.changed(),
            core,
            shutdown,
            id,
            first: true,
        }
    }
}

#[tonic::async_trait]
impl RolloutService for Rollouts {
    type AwaitFenceStream = Answers<AwaitFenceResponse>;
    type WatchRolloutStream = Answers<WatchRolloutResponse>;

    async fn preview_rollout(
        &self,
        request: Request<PreviewRolloutRequest>,
    ) -> Result<Response<PreviewRolloutResponse>, Status> {
        let caller = access::operator(&request)?;
        let mut spec = spec(&request.into_inner().spec)?;
        self.core.ask_packages_of(&spec).await?;
        let world = self.core.read().await;
        world.narrow_for(&caller, &mut spec)?;
        let preview = comber_planner::preview(&world.input, &spec, world.now());
        let preview = preview.map_err(|errors| status::all_invalid(&errors))?;
        Ok(Response::new(view::preview(&world.input, &spec, &preview)))
    }

    async fn create_rollout(
        &self,
        request: Request<CreateRolloutRequest>,
    ) -> Result<Response<CreateRolloutResponse>, Status> {
        let actor = access::operator(&request)?;
        let spec = spec(&request.into_inner().spec)?;
        let id = self.core.create_rollout(spec, &actor).await?;
        let rollout = Some(self.one(id).await?);
        Ok(Response::new(CreateRolloutResponse { rollout }))
    }

    async fn start_rollout(
        &self,
        request: Request<StartRolloutRequest>,
    ) -> Result<Response<StartRolloutResponse>, Status> {
        let actor = access::operator(&request)?;
        let rollout = self
            .steer(&request.into_inner().id, Command::Start, &actor)
            .await?;
        Ok(Response::new(StartRolloutResponse { rollout }))
    }

    async fn pause_rollout(
        &self,
        request: Request<PauseRolloutRequest>,
    ) -> Result<Response<PauseRolloutResponse>, Status> {
        let actor = access::operator(&request)?;
        let rollout = self
            .steer(&request.into_inner().id, Command::Pause, &actor)
            .await?;
        Ok(Response::new(PauseRolloutResponse { rollout }))
    }

    async fn resume_rollout(
        &self,
        request: Request<ResumeRolloutRequest>,
    ) -> Result<Response<ResumeRolloutResponse>, Status> {
        let actor = access::operator(&request)?;
        let rollout = self
            .steer(&request.into_inner().id, Command::Resume, &actor)
            .await?;
        Ok(Response::new(ResumeRolloutResponse { rollout }))
    }

    async fn abort_rollout(
        &self,
        request: Request<AbortRolloutRequest>,
    ) -> Result<Response<AbortRolloutResponse>, Status> {
        let actor = access::operator(&request)?;
        let rollout = self
            .steer(&request.into_inner().id, Command::Abort, &actor)
            .await?;
        Ok(Response::new(AbortRolloutResponse { rollout }))
    }

    async fn roll_back_rollout(
        &self,
        request: Request<RollBackRolloutRequest>,
    ) -> Result<Response<RollBackRolloutResponse>, Status> {
        let actor = access::operator(&request)?;
        let rollout = self
            .steer(&request.into_inner().id, Command::RollBack, &actor)
            .await?;
        Ok(Response::new(RollBackRolloutResponse { rollout }))
    }

    async fn await_fence(
        &self,
        request: Request<AwaitFenceRequest>,
    ) -> Result<Response<Self::AwaitFenceStream>, Status> {
        let id = parse(&request.into_inner().id)?;
        self.one(id).await?;
        let stream = stream::unfold(Some(self.watcher(id)), |watcher| async {
            let mut watcher = watcher?;
            match watcher.fence().await {
                Ok(answer) if answer.closed => Some((Ok(answer), None)),
                Ok(answer) => Some((Ok(answer), Some(watcher))),
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn get_rollout(
        &self,
        request: Request<GetRolloutRequest>,
    ) -> Result<Response<GetRolloutResponse>, Status> {
        let rollout = Some(self.one(parse(&request.into_inner().id)?).await?);
        Ok(Response::new(GetRolloutResponse { rollout }))
    }

    async fn list_rollouts(
        &self,
        request: Request<ListRolloutsRequest>,
    ) -> Result<Response<ListRolloutsResponse>, Status> {
        let request = request.into_inner();
        let limit = if request.limit == 0 {
            LIST
        } else {
            request.limit.min(1000)
        };
        let world = self.core.read().await;
        let named = world.input.rollouts.values().rev().filter(|view| {
            request.name.is_empty() || view.rollout.spec.release.name.as_str() == request.name
        });
        let rollouts = named.take(limit as usize).map(view::rollout_row).collect();
        Ok(Response::new(ListRolloutsResponse { rollouts }))
    }

    async fn watch_rollout(
        &self,
        request: Request<WatchRolloutRequest>,
    ) -> Result<Response<Self::WatchRolloutStream>, Status> {
        let id = parse(&request.into_inner().id)?;
        self.one(id).await?;
        let stream = stream::unfold(Some(self.watcher(id)), |watcher| async {
            let mut watcher = watcher?;
            match watcher.rollout().await {
                Ok(rollout) => {
                    let response = WatchRolloutResponse {
                        rollout: Some(rollout),
                    };
                    Some((Ok(response), Some(watcher)))
                }
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_members(
        &self,
        request: Request<ListMembersRequest>,
    ) -> Result<Response<ListMembersResponse>, Status> {
        let request = request.into_inner();
        let id = parse(&request.id)?;
        let outcomes = outcomes(&request.outcomes)?;
        let world = self.core.read().await;
        let rollout = find(&world, id)?;
        let after = page_after(rollout, &request.page_token)?;
        let wanted = rollout.members.values().filter(|member| {
            let wave = request.wave == 0 || u32::from(member.wave) + 1 == request.wave;
            let outcome = outcomes.is_empty() || outcomes.contains(&member.outcome().as_str());
            wave && outcome && after.is_none_or(|after| place(member) > after)
        });
        let mut page: Vec<&Member> = wanted.collect();
        page.sort_by_key(|member| place(member));
        let size = page_size(request.page_size);
        let more = page.len() > size;
        page.truncate(size);
        let last = page.last().filter(|_| more);
        let next_page_token = last.map_or_else(String::new, |member| member.host.to_string());
        let members = page
            .into_iter()
            .map(|m| view::member(&world.input, m))
            .collect();
        Ok(Response::new(ListMembersResponse {
            members,
            next_page_token,
        }))
    }

    async fn explain_rollout(
        &self,
        request: Request<ExplainRolloutRequest>,
    ) -> Result<Response<ExplainRolloutResponse>, Status> {
        let id = parse(&request.into_inner().id)?;
        let world = self.core.read().await;
        let rollout = find(&world, id)?;
        let explained = comber_planner::explain_rollout(&world.input, id, world.now());
        let explained = explained.ok_or_else(|| CoreError::missing("rollout", id))?;
        let answer = view::explanation(&world.input, rollout, &explained, world.now());
        Ok(Response::new(answer))
    }
}

/// One rollout, looked at whenever something changed.
struct Watcher {
    core: Core,
    changed: watch::Receiver<u64>,
    shutdown: Shutdown,
    id: RolloutId,
    first: bool,
}

impl Watcher {
    async fn rollout(&mut self) -> Result<Rollout, Status> {
        if !self.first {
            tokio::time::sleep(WATCH_PAUSE).await;
            self.wake(None).await?;
        }
        self.first = false;
        self.changed.mark_unchanged();
        let world = self.core.read().await;
        let rollout = find(&world, self.id)?;
        Ok(view::rollout(&world.input, rollout, world.now()))
    }

    async fn fence(&mut self) -> Result<AwaitFenceResponse, Status> {
        if !self.first {
            self.wake(Some(FENCE_PAUSE)).await?;
        }
        self.first = false;
        self.changed.mark_unchanged();
        let world = self.core.read().await;
        find(&world, self.id)?;
        let fence = comber_planner::fence(&world.input, self.id, world.now());
        Ok(AwaitFenceResponse {
            closed: fence.is_closed(),
            open: fence
                .open
                .iter()
                .take(FENCE_HOSTS)
                .map(ToString::to_string)
                .collect(),
            open_count: u32::try_from(fence.open.len()).unwrap_or(u32::MAX),
            until: fence.until.map(time::to_timestamp),
        })
    }

    /// Waits for a change, and at most so long.
    async fn wake(&mut self, limit: Option<Duration>) -> Result<(), Status> {
        let stopping = || Status::unavailable("the controller is stopping; connect again");
        let limit = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        // Each arm may be dropped: the watch remembers that it was not looked at, the others hold nothing.
        tokio::select! {
            changed = self.changed.changed() => changed.map_err(|_| stopping()),
            _ = self.shutdown.wait() => Err(stopping()),
            () = limit => Ok(()),
        }
    }
}

fn spec(source: &str) -> Result<RolloutSpec, Status> {
    RolloutSpec::parse(source).map_err(|errors| status::all_invalid(&errors))
}

fn parse(id: &str) -> Result<RolloutId, Status> {
    id.parse().map_err(|error| status::invalid(&error))
}

/// The order in which hosts are listed. It does not change while somebody turns the pages, as outcomes do.
fn place(member: &Member) -> (u16, u32, &HostId) {
    (member.wave, member.order, &member.host)
}

/// Behind which place a page begins: its token names the last host of the page before.
fn page_after<'a>(
    rollout: &'a RolloutView,
    token: &str,
) -> Result<Option<(u16, u32, &'a HostId)>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let host = token.parse::<HostId>().ok();
    let member = host.and_then(|host| rollout.members.get(&host));
    let unknown = || Invalid::new("page_token", "is not from a page of this rollout");
    let member = member.ok_or_else(|| status::invalid(&unknown()))?;
    Ok(Some(place(member)))
}

/// Words for outcomes, each a known one.
fn outcomes(words: &[String]) -> Result<Vec<&str>, Status> {
    const KNOWN: [&str; 5] = ["succeeded", "failed", "pending", "unreached", "excluded"];
    let unknown = words.iter().find(|word| !KNOWN.contains(&word.as_str()));
    match unknown {
        Some(_) => Err(status::invalid(&Invalid::new(
            "outcomes",
            format!("must be of {}", KNOWN.join(", ")),
        ))),
        None => Ok(words.iter().map(String::as_str).collect()),
    }
}

fn find(world: &World, id: RolloutId) -> Result<&RolloutView, CoreError> {
    world
        .input
        .rollouts
        .get(&id)
        .ok_or_else(|| CoreError::missing("rollout", id))
}
