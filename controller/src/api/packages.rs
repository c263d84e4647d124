//! Takes in a host's difference of packages, part by part, within bounds.
//!
//! Few calls are taken in at once: after a restore every host sends its whole list, and the lists of a large fleet would
//! not fit in memory together. Who waits is held back by the flow control of its own stream, and tries again later.

use std::sync::Arc;
use std::time::Duration;

use comber_model::packages::{Difference, LIST_BYTES_MAX, LIST_MAX, PackageSummary};
use comber_model::wire::package_change_from_wire;
use comber_model::{HostId, Invalid};
use comber_proto::agent::v1::ReportPackagesRequest;
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::{Status, Streaming};

use super::status;
use crate::core::{Core, PackageReport};
use crate::metrics::ServeMetrics;

/// Calls that are taken in at once: at most 2 MB each, and the store makes their lists durable in groups anyway.
const AT_ONCE: usize = 16;
/// Longest wait for a turn. Shorter than an agent waits for its answer, so that it learns why.
const TURN_MAX: Duration = Duration::from_secs(5);
/// Longest time between the first part and the last; a slow line carries 900 kB in it.
const PARTS_MAX: Duration = Duration::from_mins(2);

/// Takes differences in.
#[derive(Debug)]
pub(super) struct Receiver {
    turns: Arc<Semaphore>,
    metrics: ServeMetrics,
}

impl Receiver {
    /// With all turns free.
    pub(super) fn new(metrics: ServeMetrics) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            metrics,
        }
    }

    /// Takes one in; gives the list that is durable now.
    pub(super) async fn take(
        &self,
        core: &Core,
        host: &HostId,
        parts: Streaming<ReportPackagesRequest>,
    ) -> Result<Option<PackageSummary>, Status> {
        let _turn = self.turn().await?;
        let report = tokio::time::timeout(PARTS_MAX, gather(parts))
            .await
            .map_err(|_| Status::deadline_exceeded("the parts did not come in time"))??;
        let (is_whole, result) = (report.base.is_none(), report.result);
        let held = core.report_packages(host, report).await?;
        let is_held = held.is_some_and(|held| held.digest == result);
        self.metrics.packages(match (is_held, is_whole) {
            (true, true) => "whole",
            (true, false) => "difference",
            (false, _) => "base_unknown",
        });
        Ok(held)
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, Status> {
        let busy = || Status::resource_exhausted("many hosts send their packages; try again later");
        let turn = tokio::time::timeout(TURN_MAX, self.turns.acquire()).await;
        turn.map_err(|_| busy())?.map_err(|_| busy())
    }
}

async fn gather(mut parts: Streaming<ReportPackagesRequest>) -> Result<PackageReport, Status> {
    let mut first = None;
    let mut difference = Difference::default();
    let (mut bytes, mut count) = (0, 0);
    while let Some(part) = parts.message().await? {
        if first.is_none() {
            let change = package_change_from_wire(part.change.as_ref());
            first = Some(change.map_err(|error| status::invalid(&error))?);
        } else if part.change.is_some() {
            return Err(refused("change", "is set in a later part than the first"));
        }
        let purls = part.removed.iter().chain(&part.added);
        bytes += purls.map(String::len).sum::<usize>();
        count += part.removed.len() + part.added.len();
        // One list may go as a whole where another comes.
        if bytes > 2 * LIST_BYTES_MAX || count > 2 * LIST_MAX {
            return Err(refused("added", "the difference is larger than two lists"));
        }
        difference.removed.extend(part.removed);
        difference.added.extend(part.added);
    }
    let (base, result) = first.ok_or_else(|| refused("change", "is missing"))?;
    Ok(PackageReport {
        base,
        result,
        difference,
    })
}

fn refused(field: &str, problem: &str) -> Status {
    status::invalid(&Invalid::new(field, problem))
}
