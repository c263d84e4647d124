//! Freezes of the fleet.

use comber_model::calendar::{Freeze, FreezeTime, Stretch, ZoneChoice};
use comber_model::wire::time::to_timestamp;
use comber_model::{FreezeName, Invalid};
use comber_planner::held_too_late;
use comber_proto::freeze::v1 as wire;
use comber_proto::freeze::v1::freeze_service_server::FreezeService;
use jiff::Timestamp;
use tonic::{Request, Response, Status};

use super::{access, status, view};
use crate::core::{Core, CoreError};

/// The service.
#[derive(Debug)]
pub(super) struct Freezes {
    core: Core,
}

impl Freezes {
    /// Freezes of this core.
    pub(super) fn new(core: Core) -> Self {
        Self { core }
    }
}

#[tonic::async_trait]
impl FreezeService for Freezes {
    async fn add_freeze(
        &self,
        request: Request<wire::AddFreezeRequest>,
    ) -> Result<Response<wire::AddFreezeResponse>, Status> {
        let actor = access::operator(&request)?;
        let request = request.into_inner();
        let freeze = parse(request.freeze, actor)
            .map_err(|problems| Status::from(CoreError::Invalid(problems)))?;
        let freeze = self.core.add_freeze(freeze, request.replace).await?;
        let world = self.core.read().await;
        let fence = held_too_late(&world.input, world.now());
        Ok(Response::new(wire::AddFreezeResponse {
            freeze: Some(view::freeze(&freeze, world.now())),
            open_permits: view::count(fence.open.len()),
            fenced_at: fence.until.map(to_timestamp),
        }))
    }

    async fn list_freezes(
        &self,
        _request: Request<wire::ListFreezesRequest>,
    ) -> Result<Response<wire::ListFreezesResponse>, Status> {
        let world = self.core.read().await;
        let freezes = world.input.freezes.values();
        let freezes = freezes.map(|freeze| view::freeze(freeze, world.now()));
        Ok(Response::new(wire::ListFreezesResponse {
            freezes: freezes.collect(),
        }))
    }

    async fn remove_freeze(
        &self,
        request: Request<wire::RemoveFreezeRequest>,
    ) -> Result<Response<wire::RemoveFreezeResponse>, Status> {
        let actor = access::operator(&request)?;
        let name: Result<FreezeName, Invalid> = request.into_inner().name.parse();
        let name = name.map_err(|error| status::invalid(&error))?;
        let freeze = self.core.remove_freeze(name, &actor).await?;
        let now = self.core.read().await.now();
        let freeze = Some(view::freeze(&freeze, now));
        Ok(Response::new(wire::RemoveFreezeResponse { freeze }))
    }
}

/// What was asked for, with everything that is wrong with it.
fn parse(freeze: Option<wire::Freeze>, author: String) -> Result<Freeze, Vec<Invalid>> {
    let Some(freeze) = freeze else {
        return Err(vec![Invalid::new("freeze", "is missing")]);
    };
    let mut problems = Vec::new();
    let name = freeze.name.parse::<FreezeName>();
    let name = name.map_err(|error| problems.push(error)).ok();
    let zone = match freeze.zone.as_str() {
        "" => Ok(ZoneChoice::Host),
        zone => ZoneChoice::try_from(zone.to_owned()),
    };
    let zone = zone.map_err(|error| problems.push(error)).ok();
    let mut times = Vec::new();
    for (index, time) in freeze.times.into_iter().enumerate() {
        match time.when.parse::<Stretch>() {
            Ok(when) => times.push(FreezeTime {
                when,
                title: (!time.title.is_empty()).then_some(time.title),
            }),
            Err(error) => problems.push(error.within(&format!("when[{index}]"))),
        }
    }
    let (Some(name), Some(zone), true) = (name, zone, problems.is_empty()) else {
        return Err(problems);
    };
    let freeze = Freeze {
        name,
        reason: freeze.reason,
        zone,
        times,
        author,
        created_at: Timestamp::UNIX_EPOCH,
    };
    freeze.check()?;
    Ok(freeze)
}
