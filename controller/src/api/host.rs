//! Hosts: the inventory.

use std::collections::BTreeMap;

use comber_model::packages::Package;
use comber_model::selector::{Selector, Subject};
use comber_model::{HostId, Invalid};
use comber_planner::{HostView, explain_host};
use comber_proto::host::v1::host_service_server::HostService;
use comber_proto::host::v1::{
    ExplainHostRequest, ExplainHostResponse, GetHostRequest, GetHostResponse, HostExplanation,
    HostRollout, LabelHostsRequest, LabelHostsResponse, ListHostsRequest, ListHostsResponse,
    ListPackagesRequest, ListPackagesResponse, ResolveHostRequest, ResolveHostResponse,
    RetireHostRequest, RetireHostResponse, RevokeHostRequest, RevokeHostResponse,
};
use tonic::{Request, Response, Status};

use super::{access, status, view};
use crate::core::{Core, CoreError, World};

/// Hosts of a page that does not say how many.
const PAGE: usize = 100;
/// Most hosts of a page.
const PAGE_MAX: usize = 1000;
/// Most hosts that one call labels.
const LABEL_MAX: usize = 100_000;
/// Rollouts told of one host.
const HISTORY: usize = 50;
/// Longest reason of a revocation: a line of a table.
const REASON_MAX: usize = 256;

/// The service.
#[derive(Debug)]
pub(super) struct Hosts {
    core: Core,
}

impl Hosts {
    /// Hosts of this core.
    pub(super) fn new(core: Core) -> Self {
        Self { core }
    }
}

/// How many of a page, from what was asked.
pub(super) fn page_size(asked: u32) -> usize {
    match asked {
        0 => PAGE,
        size => (size as usize).min(PAGE_MAX),
    }
}

#[tonic::async_trait]
impl HostService for Hosts {
    async fn list_hosts(
        &self,
        request: Request<ListHostsRequest>,
    ) -> Result<Response<ListHostsResponse>, Status> {
        let request = request.into_inner();
        let selector = self.selector(&request.selector).await?;
        let size = page_size(request.page_size);
        let world = self.core.read().await;
        let selected = world.input.hosts.values().filter(|view| {
            (request.retired || view.host.retired_at.is_none()) && matches(selector.as_ref(), view)
        });
        let mut response = ListHostsResponse::default();
        for host in selected {
            response.total += 1;
            if host.host.id.as_str() <= request.page_token.as_str() {
                continue;
            }
            if response.hosts.len() < size {
                response.hosts.push(view::host(host));
            } else if response.next_page_token.is_empty() {
                let last = response.hosts.last().map(|host| host.id.clone());
                response.next_page_token = last.unwrap_or_default();
            }
        }
        Ok(Response::new(response))
    }

    async fn get_host(
        &self,
        request: Request<GetHostRequest>,
    ) -> Result<Response<GetHostResponse>, Status> {
        let id = parse(&request.into_inner().id)?;
        let world = self.core.read().await;
        let host = find(&world, &id)?;
        let parts = world.input.rollouts.values().rev().filter_map(|rollout| {
            let member = rollout.members.get(&id)?;
            Some(HostRollout {
                rollout: rollout.rollout.id.to_string(),
                release: rollout.rollout.spec.release.to_string(),
                member: Some(view::member(&world.input, member)),
            })
        });
        let rollouts = parts.take(HISTORY).collect();
        Ok(Response::new(GetHostResponse {
            host: Some(view::host(host)),
            rollouts,
        }))
    }

    async fn label_hosts(
        &self,
        request: Request<LabelHostsRequest>,
    ) -> Result<Response<LabelHostsResponse>, Status> {
        let actor = access::operator(&request)?;
        let request = request.into_inner();
        let hosts = self.named_or_selected(&request).await?;
        let set: BTreeMap<String, String> = request.set.into_iter().collect();
        let changed = self
            .core
            .label_hosts(hosts, set, request.remove, &actor)
            .await?;
        let changed = changed.iter().map(ToString::to_string).collect();
        Ok(Response::new(LabelHostsResponse { changed }))
    }

    async fn list_packages(
        &self,
        request: Request<ListPackagesRequest>,
    ) -> Result<Response<ListPackagesResponse>, Status> {
        let request = request.into_inner();
        let size = page_size(request.page_size);
        let Some((summary, list)) = self.core.packages(&parse(&request.id)?).await? else {
            return Ok(Response::new(ListPackagesResponse::default()));
        };
        let mut rest = list
            .purls()
            .skip_while(|purl| *purl <= request.page_token.as_str());
        let page: Vec<&str> = rest.by_ref().take(size).collect();
        let more = page.last().filter(|_| rest.next().is_some());
        let parsed = page.iter().filter_map(|purl| purl.parse::<Package>().ok());
        Ok(Response::new(ListPackagesResponse {
            next_page_token: more.map_or_else(String::new, ToString::to_string),
            packages: parsed.map(view::package).collect(),
            summary: Some(view::package_summary(summary)),
        }))
    }

    async fn retire_host(
        &self,
        request: Request<RetireHostRequest>,
    ) -> Result<Response<RetireHostResponse>, Status> {
        let actor = access::operator(&request)?;
        let id = parse(&request.into_inner().id)?;
        self.core.retire_host(&id, &actor).await?;
        let world = self.core.read().await;
        let host = Some(view::host(find(&world, &id)?));
        Ok(Response::new(RetireHostResponse { host }))
    }

    async fn revoke_host(
        &self,
        request: Request<RevokeHostRequest>,
    ) -> Result<Response<RevokeHostResponse>, Status> {
        let actor = access::operator(&request)?;
        let request = request.into_inner();
        let (id, reason) = (parse(&request.id)?, request.reason);
        if reason.len() > REASON_MAX || reason.chars().any(char::is_control) {
            let problem = format!("is one line of at most {REASON_MAX} bytes");
            return Err(status::invalid(&Invalid::new("reason", problem)));
        }
        self.core.revoke_host(&id, &reason, &actor).await?;
        let world = self.core.read().await;
        let host = Some(view::host(find(&world, &id)?));
        Ok(Response::new(RevokeHostResponse { host }))
    }

    async fn resolve_host(
        &self,
        request: Request<ResolveHostRequest>,
    ) -> Result<Response<ResolveHostResponse>, Status> {
        let actor = access::operator(&request)?;
        let id = parse(&request.into_inner().id)?;
        self.core.resolve_host(&id, &actor).await?;
        let world = self.core.read().await;
        let host = Some(view::host(find(&world, &id)?));
        Ok(Response::new(ResolveHostResponse { host }))
    }

    async fn explain_host(
        &self,
        request: Request<ExplainHostRequest>,
    ) -> Result<Response<ExplainHostResponse>, Status> {
        let id = parse(&request.into_inner().id)?;
        let world = self.core.read().await;
        let host = find(&world, &id)?;
        let explained = explain_host(&world.input, &id, world.now());
        let mut rollouts = Vec::new();
        for (index, part) in explained
            .iter()
            .flat_map(|whole| &whole.rollouts)
            .enumerate()
        {
            let rollout = world.input.rollouts.get(&part.rollout);
            // What is over is history, except the newest.
            if let Some(rollout) = rollout
                && (index == 0 || part.hold.is_some())
            {
                let member = rollout.members.get(&id);
                rollouts.push(HostExplanation {
                    rollout: part.rollout.to_string(),
                    release: rollout.rollout.spec.release.to_string(),
                    member: member.map(|member| view::member(&world.input, member)),
                    holds: part.hold.iter().map(view::hold).collect(),
                });
            }
        }
        Ok(Response::new(ExplainHostResponse {
            host: Some(view::host(host)),
            rollouts,
        }))
    }
}

impl Hosts {
    /// A selector, with what it asks of hosts at hand.
    async fn selector(&self, source: &str) -> Result<Option<Selector>, Status> {
        if source.is_empty() {
            return Ok(None);
        }
        let selector =
            Selector::parse(source).map_err(|error| status::invalid(&error.within("selector")))?;
        let names = selector.packages().iter().cloned().collect();
        self.core.ask_packages(names).await?;
        Ok(Some(selector))
    }

    async fn named_or_selected(&self, request: &LabelHostsRequest) -> Result<Vec<HostId>, Status> {
        let refuse = |problem: &str| Err(status::invalid(&Invalid::new("hosts", problem)));
        let selector = self.selector(&request.selector).await?;
        match (request.hosts.as_slice(), selector) {
            ([], None) => refuse("name hosts, or give a selector"),
            ([_, ..], Some(_)) => refuse("name hosts or give a selector, not both"),
            (names, None) if names.len() > LABEL_MAX => refuse("too many at once"),
            (names, None) => names.iter().map(|name| parse(name)).collect(),
            ([], selector @ Some(_)) => {
                let world = self.core.read().await;
                let active = world
                    .input
                    .hosts
                    .values()
                    .filter(|v| v.host.retired_at.is_none());
                let selected = active.filter(|view| matches(selector.as_ref(), view));
                Ok(selected.map(|view| view.host.id.clone()).collect())
            }
        }
    }
}

fn matches(selector: Option<&Selector>, view: &HostView) -> bool {
    selector.is_none_or(|selector| selector.selects(&Subject::new(&view.host, &view.versions)))
}

fn parse(id: &str) -> Result<HostId, Status> {
    id.parse().map_err(|error| status::invalid(&error))
}

fn find<'a>(world: &'a World, id: &HostId) -> Result<&'a HostView, CoreError> {
    world
        .input
        .hosts
        .get(id)
        .ok_or_else(|| CoreError::missing("host", id))
}
