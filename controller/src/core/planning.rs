//! One planning step: plan, check, and take the plan in; or, where the check finds a broken rule, halt the rollout.

use std::collections::BTreeMap;

use comber_model::{HostId, RolloutId};
use comber_planner::{Finding, Plan, Severity};
use jiff::Timestamp;

use super::audit::Source;
use super::changes::put;
use super::edit::Edit;
use super::records;
use crate::store::Op;

/// What a planning step leaves to do.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    /// Hosts whose desired state changed, to be published once it is durable.
    pub(crate) publish: Vec<HostId>,
    /// Plan again then at the latest.
    pub(crate) next_wake: Option<Timestamp>,
}

/// Plans once. Whatever changed is in the edit's world and changes afterwards.
pub(crate) fn plan(edit: &mut Edit<'_>) -> Planned {
    let (plan, _report) = comber_planner::plan(&edit.world.input, edit.now);
    let findings = comber_planner::check(&edit.world.input, &plan, edit.now);
    for finding in findings
        .iter()
        .filter(|finding| finding.severity == Severity::Warning)
    {
        tracing::warn!(rollout = ?finding.rollout, finding = %finding.text, "plan is doubtful");
    }
    if let Some(fatal) = findings
        .iter()
        .find(|finding| finding.severity == Severity::Fatal)
    {
        return refuse(edit, fatal);
    }
    let next_wake = plan.next_wake;
    if plan.is_empty() {
        edit.world.input.apply(&plan);
        return Planned {
            publish: Vec::new(),
            next_wake,
        };
    }
    edit.changes.attribute(Source::Plan(plan.generation));
    let publish = plan.desired.iter().map(|(host, _)| host.clone()).collect();
    record(edit, &plan);
    edit.world.input.apply(&plan);
    edit.world.meta.generation = plan.generation;
    Planned { publish, next_wake }
}

/// Nothing of a plan that breaks a rule is carried out. Its rollout stops, so that the next plan can be a good one.
fn refuse(edit: &mut Edit<'_>, finding: &Finding) -> Planned {
    tracing::error!(rollout = ?finding.rollout, finding = %finding.text, "plan refused");
    let halted = finding
        .rollout
        .and_then(|id| comber_planner::halt_refused(&edit.world.input, id, finding, edit.now));
    if let Some(effect) = halted {
        edit.changes
            .attribute(Source::Plan(edit.world.input.generation));
        let events = effect
            .events
            .iter()
            .map(|event| edit.event(event))
            .collect();
        edit.put_rollout(effect.rollout, events);
    }
    Planned {
        publish: Vec::new(),
        next_wake: Some(edit.now + std::time::Duration::from_secs(1)),
    }
}

/// The records of a plan: each host's together, rollouts last, so that what a rollout says is there is there.
fn record(edit: &mut Edit<'_>, plan: &Plan) {
    let mut by_host: BTreeMap<HostId, Vec<Op>> = BTreeMap::new();
    for (id, member) in &plan.members {
        let op = put(records::member_key(*id, &member.host), member);
        by_host.entry(member.host.clone()).or_default().push(op);
    }
    for (host, desired) in &plan.desired {
        let op = put(records::host_key(records::DESIRED, host), desired);
        by_host.entry(host.clone()).or_default().push(op);
    }
    let mut by_rollout: BTreeMap<RolloutId, Vec<Op>> = BTreeMap::new();
    for event in &plan.events {
        log(event);
        let op = edit.event(event);
        match (&event.host, event.rollout) {
            (Some(host), _) if by_host.contains_key(host) => {
                by_host.entry(host.clone()).or_default().push(op);
            }
            (_, Some(rollout)) => by_rollout.entry(rollout).or_default().push(op),
            (_, None) => edit.changes.group(vec![op]),
        }
    }
    for group in by_host.into_values() {
        edit.changes.group(group);
    }
    for rollout in &plan.rollouts {
        let op = put(records::rollout_key(rollout.id), rollout);
        by_rollout.entry(rollout.id).or_default().push(op);
    }
    // A rollout's events can be many; only the last group holds its record.
    for group in by_rollout.into_values() {
        for part in group.chunks(50) {
            edit.changes.group(part.to_vec());
        }
    }
}

/// The one line of the log for each change that the planner makes.
fn log(event: &comber_model::event::Event) {
    let kind = event.kind.as_str();
    let rollout = event.rollout.map(|id| id.to_string());
    let host = event.host.as_ref().map(HostId::as_str);
    tracing::info!(kind, rollout, host, "{}", event.text);
}
