//! What the controller measures. Counts of hosts and rollouts are taken from the world when they are scraped, so they
//! can never drift from it.

use std::fmt;
use std::sync::Arc;

use comber_model::rollout::{Outcomes, RolloutState};
use comber_model::{AgentState, BarReason, RolloutId};
use comber_planner::{DomainState, budget_domains};
use comber_runtime::metrics::Metrics;
use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::core::{Core, World};
use crate::store::{GroupCommitted, Revision};

/// Rollouts that are over and still told; bounds the labels.
const OVER_MAX: usize = 20;

/// Counters of the TLS port.
#[derive(Debug, Clone, Default)]
pub struct ServeMetrics {
    /// Bytes of artifacts sent.
    pub bytes: Counter,
    /// Bytes of uploads taken in.
    pub received: Counter,
    refused: Family<Labels, Counter>,
    cut: Family<Labels, Counter>,
    uploads: Family<Labels, Counter>,
    packages: Family<Labels, Counter>,
}

/// One label with its value, both from a fixed set.
type Labels = [(&'static str, &'static str); 1];

impl ServeMetrics {
    /// Registers them.
    pub fn register(metrics: &mut Metrics) -> Self {
        let own = Self::default();
        let registry = metrics.registry();
        registry.register(
            "comber_artifact_sent_bytes",
            "Bytes of artifacts sent to hosts and operators",
            own.bytes.clone(),
        );
        registry.register(
            "comber_upload_received_bytes",
            "Bytes of releases received from operators",
            own.received.clone(),
        );
        registry.register(
            "comber_uploads",
            "Calls of Upload by how they ended",
            own.uploads.clone(),
        );
        registry.register(
            "comber_package_reports",
            "Lists of packages that hosts reported, by how: a difference, a whole list, or against an unknown base",
            own.packages.clone(),
        );
        registry.register(
            "comber_connections_refused",
            "Connections refused in or just after their TLS handshake, by reason",
            own.refused.clone(),
        );
        registry.register(
            "comber_connections_cut",
            "Connections ended because their peer is let in no more or its certificate is over, by reason",
            own.cut.clone(),
        );
        own
    }

    /// Counts a connection that was cut; `reason` is of a fixed set.
    pub(crate) fn cut(&self, reason: &'static str) {
        self.cut.get_or_create(&[("reason", reason)]).inc();
    }

    /// Counts a refused connection; `reason` is of a fixed set.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&[("reason", reason)]).inc();
    }

    /// Counts a call in which a host reported packages; `kind` is of a fixed set.
    pub(crate) fn packages(&self, kind: &'static str) {
        self.packages.get_or_create(&[("kind", kind)]).inc();
    }

    /// Counts an upload that ended; `result` is of a fixed set.
    pub(crate) fn uploaded(&self, result: &'static str) {
        self.uploads.get_or_create(&[("result", result)]).inc();
    }
}

/// Times of the core and of the store.
#[derive(Debug, Clone)]
pub struct StateMetrics {
    plan: Histogram,
    commit: Histogram,
    group: Histogram,
}

impl StateMetrics {
    /// Registers them.
    pub fn register(metrics: &mut Metrics) -> Self {
        let own = Self {
            plan: Histogram::new(exponential_buckets(0.000_05, 3.0, 12)),
            commit: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
            group: Histogram::new(exponential_buckets(1.0, 4.0, 6)),
        };
        let registry = metrics.registry();
        registry.register(
            "comber_plan_seconds",
            "How long one planning step took",
            own.plan.clone(),
        );
        registry.register(
            "comber_store_commit_seconds",
            "From the submission of the oldest transaction of a group until the group was durable",
            own.commit.clone(),
        );
        registry.register(
            "comber_store_group_transactions",
            "Transactions that one sync of the journal made durable",
            own.group.clone(),
        );
        own
    }
}

impl crate::core::Observer for StateMetrics {
    fn planned(&self, seconds: f64) {
        self.plan.observe(seconds);
    }
}

impl crate::store::Observer for StateMetrics {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a group has far fewer than 2^52 members"
    )]
    fn committed(&self, group: &GroupCommitted) {
        self.commit.observe(group.seconds);
        self.group.observe(group.transactions as f64);
    }

    fn checkpointed(&self, revision: Revision) {
        tracing::debug!(%revision, "checkpoint");
    }
}

/// What is counted of one budget.
#[derive(Debug, Clone, Copy, Default)]
struct BudgetFigures {
    down: u32,
    domains: u32,
    full: u32,
}

impl BudgetFigures {
    fn of(domains: &[DomainState]) -> Self {
        let full = domains.iter().filter(|domain| domain.down >= domain.limit);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            down: domains.iter().map(|domain| domain.down).sum(),
            domains: count(domains.len()),
            full: count(full.count()),
        }
    }
}

/// Counts of hosts and rollouts, taken from the world at each scrape.
#[derive(Debug)]
pub struct WorldCollector {
    core: Core,
    last: Arc<Mutex<Figures>>,
}

/// What was counted.
#[derive(Debug, Clone, Default)]
struct Figures {
    hosts: Vec<(&'static str, u32)>,
    barred: Vec<(&'static str, u32)>,
    agents: Vec<(&'static str, u32)>,
    rollouts: Vec<(&'static str, u32)>,
    outcomes: Vec<(RolloutId, Outcomes)>,
    budgets: Vec<(String, BudgetFigures)>,
    locks: u32,
    due: Vec<(RolloutId, i64, bool)>,
    streams: u32,
    generation: u64,
}

impl WorldCollector {
    /// Counts the world of this core.
    pub fn new(core: Core) -> Self {
        Self {
            core,
            last: Arc::default(),
        }
    }

    /// The figures now; those of the last scrape where the world is being changed at this very moment.
    fn figures(&self) -> Figures {
        let mut last = self.last.lock();
        if let Some(world) = self.core.glance() {
            *last = Figures::of(&world, world.now());
        }
        last.clone()
    }
}

impl Figures {
    fn of(world: &World, now: Timestamp) -> Self {
        let mut hosts = [("connected", 0), ("disconnected", 0), ("retired", 0)];
        let mut barred = [(BarReason::Revoked, 0), (BarReason::Cloned, 0)];
        let mut agents: Vec<(&str, u32)> = AgentState::ALL.map(|s| (s.as_str(), 0)).to_vec();
        for view in world.input.hosts.values() {
            let index = match (view.host.retired_at, view.link.is_up()) {
                (Some(_), _) => 2,
                (None, true) => 0,
                (None, false) => 1,
            };
            hosts[index].1 += 1;
            let reason = view.host.barred.as_ref().map(|barred| barred.reason);
            if let Some(slot) = barred.iter_mut().find(|(name, _)| Some(*name) == reason) {
                slot.1 += 1;
            }
            let state = view.status.as_ref().map(|status| status.state.as_str());
            if let Some(slot) = agents.iter_mut().find(|(name, _)| Some(*name) == state) {
                slot.1 += 1;
            }
        }
        let mut rollouts: Vec<(&str, u32)> = RolloutState::ALL.map(|s| (s.as_str(), 0)).to_vec();
        let (mut outcomes, mut due, mut over) = (Vec::new(), Vec::new(), 0);
        for view in world.input.rollouts.values().rev() {
            let state = view.rollout.state;
            if let Some(slot) = rollouts
                .iter_mut()
                .find(|(name, _)| *name == state.as_str())
            {
                slot.1 += 1;
            }
            over += usize::from(state.is_over());
            if !state.is_over() || over <= OVER_MAX {
                outcomes.push((view.rollout.id, view.outcomes()));
            }
            if let Some(at) = view.rollout.due_at().filter(|_| !state.is_over()) {
                let is_overdue = view.rollout.overdue_at.is_some();
                due.push((view.rollout.id, at.as_second(), is_overdue));
            }
        }
        Self {
            hosts: hosts.to_vec(),
            barred: barred
                .map(|(reason, count)| (reason.as_str(), count))
                .to_vec(),
            agents,
            rollouts,
            outcomes,
            budgets: budgets(world, now),
            locks: u32::try_from(world.input.hosts.locks().len()).unwrap_or(u32::MAX),
            due,
            streams: u32::try_from(world.streams()).unwrap_or(u32::MAX),
            generation: world.input.generation.0,
        }
    }
}

impl Collector for WorldCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let figures = self.figures();
        let encoder = &mut encoder;
        family(
            encoder,
            "comber_hosts",
            "Hosts by whether they are connected",
            &figures.hosts,
        )?;
        let help = "Hosts that are let in no more, by why";
        family(encoder, "comber_hosts_barred", help, &figures.barred)?;
        let help = "Hosts by the state that their agent last told";
        family(encoder, "comber_agents", help, &figures.agents)?;
        family(
            encoder,
            "comber_rollouts",
            "Rollouts by state",
            &figures.rollouts,
        )?;
        let help = "Selected hosts by rollout and outcome; the five of a rollout add up to all";
        outcomes(encoder, "comber_rollout_hosts", help, &figures.outcomes)?;
        let of = |of: fn(&BudgetFigures) -> u32| {
            let counts = figures
                .budgets
                .iter()
                .map(|(name, one)| (name.clone(), of(one).into()));
            counts.collect::<Vec<(String, i64)>>()
        };
        let help = "Hosts and locks that are or may be down, by disruption budget";
        labelled(
            encoder,
            "comber_budget_down",
            help,
            "budget",
            &of(|one| one.down),
        )?;
        let help = "Failure domains by disruption budget";
        labelled(
            encoder,
            "comber_budget_domains",
            help,
            "budget",
            &of(|one| one.domains),
        )?;
        let help =
            "Failure domains without room for one more host to go down, by disruption budget";
        labelled(
            encoder,
            "comber_budget_domains_full",
            help,
            "budget",
            &of(|one| one.full),
        )?;
        let help = "Locks that hosts without agent hold";
        gauge(encoder, "comber_locks", help, u64::from(figures.locks))?;
        let due = |of: fn(&(RolloutId, i64, bool)) -> i64| {
            let due = figures.due.iter().map(|one| (one.0.to_string(), of(one)));
            due.collect::<Vec<(String, i64)>>()
        };
        let help = "When a rollout that is not over is due, by rollout";
        labelled(
            encoder,
            "comber_rollout_due_timestamp_seconds",
            help,
            "rollout",
            &due(|one| one.1),
        )?;
        let help = "1 for a rollout that is not over and past its due date, else 0, by rollout";
        labelled(
            encoder,
            "comber_rollout_overdue",
            help,
            "rollout",
            &due(|one| one.2.into()),
        )?;
        let help = "Streams of hosts that are up";
        gauge(encoder, "comber_streams", help, u64::from(figures.streams))?;
        let help = "Generation of the last committed plan";
        gauge(encoder, "comber_plan_generation", help, figures.generation)
    }
}

fn budgets(world: &World, now: Timestamp) -> Vec<(String, BudgetFigures)> {
    let input = &world.input;
    let budgets = input.hosts.budgets().map(|budget| {
        let domains = budget_domains(input, &budget.name, now);
        (budget.name.to_string(), BudgetFigures::of(&domains))
    });
    budgets.collect()
}

/// One gauge for each name.
fn labelled(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    values: &[(String, i64)],
) -> Result<(), fmt::Error> {
    let kind = ConstGauge::new(0_i64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (of, value) in values {
        let labels = [(label, of.as_str())];
        ConstGauge::new(*value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), fmt::Error> {
    let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}

fn family(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    counts: &[(&'static str, u32)],
) -> Result<(), fmt::Error> {
    let kind = ConstGauge::new(0_i64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (state, count) in counts {
        let labels = [("state", *state)];
        ConstGauge::new(i64::from(*count)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn outcomes(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rollouts: &[(RolloutId, Outcomes)],
) -> Result<(), fmt::Error> {
    let kind = ConstGauge::new(0_i64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (id, counts) in rollouts {
        let id = id.to_string();
        for (outcome, count) in [
            ("succeeded", counts.succeeded),
            ("failed", counts.failed),
            ("pending", counts.pending),
            ("unreached", counts.unreached),
            ("excluded", counts.excluded),
        ] {
            let labels = [("rollout", id.as_str()), ("outcome", outcome)];
            ConstGauge::new(i64::from(count)).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}
