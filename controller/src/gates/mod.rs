//! Asks for the planner: what gates want to know of sources beyond the fleet.
//!
//! ```text
//! planner ── rounds in the rollouts ──▶ driver ── one bounded request each ──▶ prometheus, webhook
//!    ▲                                    │
//!    └──────── core: an edit, durable ◀───┘ a verdict
//! ```
//!
//! The driver decides nothing: every question that waits is asked once per process, and whatever comes back, also a
//! refusal or silence, becomes a verdict. Only sources of the configuration are asked; no redirect is followed.
//! Input: the core's change signal. Output: edits. It holds which questions are under way and nothing else.

mod exchange;
mod prometheus;
mod source;
mod webhook;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use comber_model::SourceName;
use comber_model::rollout::Verdict;
use comber_planner::{Asked, AskedWhat, QuestionId, asked};
use comber_runtime::shutdown::Shutdown;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::core::Core;

pub use exchange::AskError;
pub use source::{Source, SourceError, kinds, sources};

/// Questions under way at once: more would let one slow source fill the controller with waiting requests.
const AT_ONCE: usize = 16;
/// Between two looks at what waits: a busy fleet changes much more often than a gate asks.
const PAUSE: Duration = Duration::from_millis(250);

/// What came back to one question.
struct Came {
    id: QuestionId,
    verdict: Verdict,
    reason: String,
}

type Asking = FuturesUnordered<Pin<Box<dyn Future<Output = Came> + Send>>>;

/// Asks what waits, for as long as the process runs.
pub async fn run(core: Core, sources: Arc<BTreeMap<SourceName, Source>>, shutdown: Shutdown) {
    let mut changed = core.changed();
    let mut asking: Asking = FuturesUnordered::new();
    let mut under_way: BTreeSet<QuestionId> = BTreeSet::new();
    loop {
        changed.mark_unchanged();
        for question in waiting(&core).await {
            if under_way.len() < AT_ONCE && under_way.insert(question.id.clone()) {
                asking.push(Box::pin(ask(question, Arc::clone(&sources))));
            }
        }
        // Each arm may be dropped: an answer stays with its future, and the watch remembers that nobody looked.
        tokio::select! {
            Some(came) = asking.next(), if !asking.is_empty() => {
                under_way.remove(&came.id);
                let taken = core.answer_gate(came.id, came.verdict, came.reason).await;
                if let Err(error) = taken {
                    tracing::warn!(%error, "an answer to a gate was not taken");
                }
            }
            changed = changed.changed() => {
                if changed.is_err() { return; }
                tokio::time::sleep(PAUSE).await;
            }
            _ = shutdown.wait() => return,
        }
    }
}

async fn waiting(core: &Core) -> Vec<Asked> {
    let world = core.read().await;
    asked(&world.input, world.now())
}

async fn ask(asked: Asked, sources: Arc<BTreeMap<SourceName, Source>>) -> Came {
    let name = match &asked.what {
        AskedWhat::Prometheus(query) => &query.source,
        AskedWhat::Webhook(hook) => &hook.source,
    };
    let (verdict, reason) = match (sources.get(name), &asked.what) {
        (Some(source), AskedWhat::Prometheus(query)) => prometheus::ask(source, query).await,
        (Some(source), AskedWhat::Webhook(_)) => webhook::ask(source, &asked).await,
        (None, _) => {
            let reason =
                format!("the controller has no source {name}; name it under [sources.{name}]");
            (Verdict::Inconclusive, reason)
        }
    };
    tracing::info!(rollout = %asked.id.rollout, source = %name, %verdict, reason, "a gate's question was answered");
    Came {
        id: asked.id,
        verdict,
        reason,
    }
}

#[cfg(test)]
mod tests;
