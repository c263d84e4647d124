//! Rules about what hosts are told: one assignment, a rising generation, permits only where they may be.

use std::collections::BTreeSet;
use std::time::Duration;

use comber_model::rollout::{Member, MemberState, RollBack, RollBackScope, RolloutState};
use comber_model::{Action, AgentState, Assignment, Desired, Grant, HostId};

use super::after::{After, is_active};
use super::{Findings, windows};
use crate::HostView;

pub(super) fn check(after: &After<'_>, findings: &mut Findings) {
    for host in looked_at(after) {
        let Some((host, view)) = after.input.hosts.get_key_value(host) else {
            continue;
        };
        let desired = after.desired(host, view);
        standing(after, host, view, desired, findings);
        if *desired != view.desired {
            changed(after, host, view, desired, findings);
        }
    }
}

/// Hosts of which anything can have changed that a rule speaks of: those that said something or that the plan names, all
/// of a rollout whose record it changes, and those that hold a permit, since time goes on. After a restart, all.
fn looked_at<'a>(after: &After<'a>) -> BTreeSet<&'a HostId> {
    let heard = after.input.hosts.heard().map(|(host, _)| host);
    let told = after.plan.desired.iter().map(|(host, _)| host);
    let members = after.plan.members.iter().map(|(_, member)| &member.host);
    let mut hosts: BTreeSet<&HostId> = heard.chain(told).chain(members).collect();
    for (id, view) in &after.input.rollouts {
        if after.plan.rollouts.iter().any(|rollout| rollout.id == *id) {
            hosts.extend(view.members.keys());
        }
        let attention = view.attention.iter();
        hosts.extend(attention.filter(|host| {
            let host = after.host(host);
            host.is_some_and(|host| host.desired.grant.is_some())
        }));
    }
    hosts
}

/// What must hold of every host, changed or not.
fn standing(
    after: &After<'_>,
    host: &HostId,
    view: &HostView,
    desired: &Desired,
    findings: &mut Findings,
) {
    let Some(assignment) = &desired.assignment else {
        if desired.grant.is_some() {
            findings.fatal(None, format!("{host} has a permit without an assignment"));
        }
        return;
    };
    let id = assignment.rollout;
    let (Some(rollout), Some(member)) = (after.rollout(id), after.member(id, host)) else {
        findings.fatal(
            id,
            format!("{host} is assigned by {id}, of which it is no member"),
        );
        return;
    };
    if member.generation != desired.generation {
        findings.fatal(
            id,
            format!(
                "{host} has an assignment of generation {}, its member says {}",
                desired.generation, member.generation
            ),
        );
    }
    if matches!(
        member.state,
        MemberState::Excluded { .. } | MemberState::Waiting
    ) {
        findings.fatal(
            id,
            format!("{host} has work of {id} though it is {}", member.outcome()),
        );
    }
    if rollout.state == RolloutState::Aborted && !is_active(view, member) {
        findings.fatal(id, format!("{host} keeps work of {id}, which is aborted"));
    }
    if desired.grant.is_some() && !may_permit(rollout.state, assignment) {
        findings.fatal(
            id,
            format!("{host} has a permit of {id}, which is {}", rollout.state),
        );
    }
    if desired.grant.is_some() && !is_active(view, member) {
        let rollout = (rollout, assignment.rolls_back);
        windows::standing(after, &view.host, rollout, findings);
    }
    if desired.grant.is_some() && desired.grant != member.grant {
        findings.fatal(
            id,
            format!("the permit of {host} is not the one remembered for it"),
        );
    }
}

fn may_permit(state: RolloutState, assignment: &Assignment) -> bool {
    match state {
        RolloutState::Running | RolloutState::Completed => !assignment.rolls_back,
        RolloutState::RollingBack => assignment.rolls_back,
        RolloutState::Draft
        | RolloutState::Paused
        | RolloutState::Halted
        | RolloutState::Aborted => false,
    }
}

fn changed(
    after: &After<'_>,
    host: &HostId,
    view: &HostView,
    desired: &Desired,
    findings: &mut Findings,
) {
    let old = &view.desired;
    let rollout = desired
        .assignment
        .as_ref()
        .map(|assignment| assignment.rollout);
    if desired.acknowledged < old.acknowledged {
        findings.fatal(
            rollout,
            format!("{host}: the acknowledged report number falls"),
        );
    }
    let expected = if desired.assignment == old.assignment {
        old.generation
    } else {
        after.plan.generation
    };
    // Taken away and given again alike in one plan is a new assignment too.
    if desired.generation != expected && desired.generation != after.plan.generation {
        findings.fatal(
            rollout,
            format!(
                "{host}: generation {} should be {expected}",
                desired.generation
            ),
        );
    }
    if desired.generation < old.generation {
        findings.fatal(rollout, format!("{host}: the generation falls"));
    }
    if let Some(assignment) = &desired.assignment {
        let id = assignment.rollout;
        let Some(member) = after.member(id, host) else {
            return;
        };
        if desired.generation != old.generation {
            free(after, host, view, assignment, findings);
            assigned(after, host, member, assignment, findings);
        }
        if let Some(grant) = desired.grant.filter(|grant| old.grant != Some(*grant)) {
            permitted(after, host, view, (member, assignment, grant), findings);
        }
    }
}

/// Nobody gives work to a host that is active, or that another rollout may still make so.
fn free(
    after: &After<'_>,
    host: &HostId,
    view: &HostView,
    assignment: &Assignment,
    findings: &mut Findings,
) {
    let id = assignment.rollout;
    if let Some(status) = view
        .status
        .as_ref()
        .filter(|status| status.state.is_active())
    {
        findings.fatal(
            id,
            format!("{host} is given work while it is {}", status.state),
        );
    }
    let Some(owner) = view
        .desired
        .assignment
        .as_ref()
        .map(|assignment| assignment.rollout)
    else {
        return;
    };
    let permitted = after.member(owner, host).and_then(|member| member.grant);
    if owner != id && permitted.is_some_and(|grant| after.now < grant.dead_at()) {
        findings.fatal(
            id,
            format!("{host} is given work while it has a permit of {owner}"),
        );
    }
}

fn assigned(
    after: &After<'_>,
    host: &HostId,
    member: &Member,
    assignment: &Assignment,
    findings: &mut Findings,
) {
    let id = assignment.rollout;
    let Some(rollout) = after.rollout(id) else {
        return;
    };
    if after
        .host(host)
        .is_some_and(|view| view.host.retired_at.is_some())
    {
        findings.fatal(id, format!("{host} is retired and is given work"));
    }
    if let Action::Install { artifact } = &assignment.action {
        let release = after.input.releases.get(&assignment.release);
        if release.is_none_or(|release| release.artifact != *artifact) {
            let text = format!(
                "{host} is to install {} with other bytes",
                assignment.release
            );
            findings.fatal(id, text);
        }
    }
    if assignment.rolls_back {
        if let Some(problem) = way_back_problem(after, member, assignment) {
            findings.fatal(id, format!("{host} is sent back {problem}"));
        }
        return;
    }
    let wave = rollout.waves.get(usize::from(member.wave));
    if wave.is_none_or(|wave| wave.opened_at.is_none()) {
        findings.fatal(
            id,
            format!("{host} is given work though its wave is not open"),
        );
    }
    let is_install = matches!(assignment.action, Action::Install { .. });
    if assignment.release != rollout.spec.release || !is_install {
        findings.fatal(
            id,
            format!("{host} is given {}, not the release", assignment.release),
        );
    }
    if !matches!(
        rollout.state,
        RolloutState::Running | RolloutState::Completed
    ) {
        findings.fatal(
            id,
            format!("{host} is given work of {id}, which is {}", rollout.state),
        );
    }
}

fn way_back_problem(
    after: &After<'_>,
    member: &Member,
    assignment: &Assignment,
) -> Option<&'static str> {
    let rollout = after.rollout(assignment.rollout)?;
    let succeeded = member.state == MemberState::Succeeded { already: false };
    if !succeeded || member.roll_back != Some(RollBack::Wanted) {
        return Some("though the rollout did not change it");
    }
    let Some(RollBackScope::WavesFrom { wave, .. }) = rollout.roll_back else {
        return Some("though the rollout does not go back");
    };
    if rollout.state != RolloutState::RollingBack || member.wave < wave {
        return Some("though its wave does not go back");
    }
    let release = after.input.releases.get(&rollout.spec.release);
    if release.is_some_and(|release| release.manifest.irreversible) {
        return Some("from an irreversible release");
    }
    let target = match &assignment.action {
        Action::Install { .. } => Some(Some(assignment.release.version.clone())),
        Action::Remove => Some(None),
    };
    let same_product = assignment.release.name == rollout.spec.release.name;
    let is_target = member.before == target && same_product;
    (!is_target).then_some("to something that it did not have before")
}

fn permitted(
    after: &After<'_>,
    host: &HostId,
    view: &HostView,
    (member, assignment, grant): (&Member, &Assignment, Grant),
    findings: &mut Findings,
) {
    let id = assignment.rollout;
    let Some(rollout) = after.rollout(id) else {
        return;
    };
    let may_be_cut = grant.ttl < rollout.spec.pace.permit && grant.ttl >= Duration::from_secs(1);
    if grant.granted_at != after.now || !(may_be_cut || grant.ttl == rollout.spec.pace.permit) {
        findings.fatal(id, format!("the permit of {host} has the wrong life"));
    }
    windows::permit(
        after,
        &view.host,
        (rollout, assignment.rolls_back),
        grant,
        findings,
    );
    let asks = view.status.as_ref().is_some_and(|status| {
        let attempt = status.attempt.as_ref();
        status.state == AgentState::AwaitingPermit
            && attempt.is_some_and(|attempt| {
                attempt.generation == member.generation && attempt.nonce == Some(grant.nonce)
            })
    });
    if !asks || !view.link.is_up() {
        findings.fatal(id, format!("{host} gets a permit that it did not ask for"));
    }
}
