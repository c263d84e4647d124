//! Rules about members: what may change in one, and that each change is told.

use std::collections::BTreeMap;

use comber_model::rollout::{Member, MemberState, Outcome};
use comber_model::{HostId, ReportResult, RolloutId};

use super::Findings;
use super::after::After;

pub(super) fn check(after: &After<'_>, findings: &mut Findings) {
    let told = told_outcomes(after);
    for (id, member) in &after.plan.members {
        if let MemberState::Succeeded { already } = member.state {
            success(after, *id, member, already, findings);
        }
        let Some(old) = after.old_member(*id, &member.host) else {
            if member.generation.0 != 0 && member.generation != after.plan.generation {
                let text = format!("{} joins {id} with an old generation", member.host);
                findings.fatal(*id, text);
            }
            continue;
        };
        history(*id, old, member, findings);
        let said = told.get(&(*id, &member.host)).copied();
        let changed =
            (old.outcome() != member.outcome()).then(|| (old.outcome(), member.outcome()));
        if changed.is_some() && said != changed {
            let text = format!(
                "the events do not tell how the outcome of {} changed",
                member.host
            );
            findings.warn(*id, text);
        }
    }
}

/// First and last outcome that the events tell, by member.
fn told_outcomes<'a>(after: &After<'a>) -> BTreeMap<(RolloutId, &'a HostId), (Outcome, Outcome)> {
    let mut told = BTreeMap::new();
    for event in &after.plan.events {
        if let (Some(id), Some(host), Some((from, to))) =
            (event.rollout, event.host.as_ref(), event.change)
        {
            told.entry((id, host))
                .and_modify(|(_, last)| *last = to)
                .or_insert((from, to));
        }
    }
    told
}

/// What a member has been through is not rewritten.
fn history(id: RolloutId, old: &Member, new: &Member, findings: &mut Findings) {
    if new.generation < old.generation {
        findings.fatal(id, format!("the generation of member {} falls", new.host));
    }
    if old.before.is_some() && new.before != old.before {
        findings.fatal(id, format!("what {} had before is rewritten", new.host));
    }
    let has_begun = !matches!(
        old.state,
        MemberState::Waiting | MemberState::Excluded { .. }
    );
    if has_begun && (new.wave, new.order) != (old.wave, old.order) {
        findings.fatal(
            id,
            format!("{} changes its wave though it has begun", new.host),
        );
    }
    if new.generation == old.generation
        && new.grant.is_some()
        && matches!(old.state, MemberState::Succeeded { .. })
        && old.grant.is_none()
        && old.roll_back.is_none()
    {
        findings.fatal(
            id,
            format!("{} gets a permit though it has succeeded", new.host),
        );
    }
}

/// A success stands on what the host said: a report, or what is installed on it.
fn success(
    after: &After<'_>,
    id: RolloutId,
    member: &Member,
    already: bool,
    findings: &mut Findings,
) {
    let old = after.old_member(id, &member.host);
    if old.is_some_and(|old| matches!(old.state, MemberState::Succeeded { .. })) {
        return;
    }
    let status = after
        .host(&member.host)
        .and_then(|view| view.status.as_ref());
    let rollout = after.rollout(id);
    let proved = status.zip(rollout).is_some_and(|(status, rollout)| {
        let release = &rollout.spec.release;
        if already {
            let installed = status.installed.get(&release.name);
            return installed.is_some_and(|installed| installed.version == release.version);
        }
        status.reports.iter().any(|report| {
            report.rollout == id
                && report.release == *release
                && report.result == ReportResult::Committed
        })
    });
    if !proved {
        findings.fatal(
            id,
            format!("{} counts as succeeded without proof", member.host),
        );
    }
}
