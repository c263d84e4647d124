//! Hosts, members and tokens.

use std::collections::BTreeMap;

use comber_model::packages::{Package, PackageSummary};
use comber_model::rollout::{Member, MemberState, Outcome, RollBack};
use comber_model::wire::time::to_timestamp;
use comber_model::{BarReason, Barred, Link, Version};
use comber_planner::{HostView, PlanInput};
use comber_proto::enrolment::v1 as enrolment;
use comber_proto::host::v1 as wire;
use comber_proto::rollout::v1 as rollout;

use crate::core::Token;
use crate::pki::tokens::TokenKind;

/// A host with what it last said.
pub(in crate::api) fn host(view: &HostView) -> wire::Host {
    let host = &view.host;
    let labels: BTreeMap<String, String> = host.labels.clone().into();
    let (Link::Up { since } | Link::Down { since }) = view.link;
    let assignment = view.desired.assignment.as_ref();
    wire::Host {
        id: host.id.to_string(),
        labels: labels.into_iter().collect(),
        facts: Some((&host.facts).into()),
        connected: view.link.is_up(),
        link_since: Some(to_timestamp(since)),
        actual: view.status.as_ref().map(Into::into),
        enrolled_at: Some(to_timestamp(host.enrolled_at)),
        retired_at: host.retired_at.map(to_timestamp),
        desired_generation: view.desired.generation.0,
        desired_rollout: assignment.map_or_else(String::new, |a| a.rollout.to_string()),
        desired_release: assignment.map_or_else(String::new, |a| a.release.to_string()),
        packages: host.packages.map(package_summary),
        bar: host.barred.as_ref().map(bar),
    }
}

/// Why a host is let in no more.
fn bar(barred: &Barred) -> wire::Bar {
    let reason = match barred.reason {
        BarReason::Revoked => wire::BarReason::Revoked,
        BarReason::Cloned => wire::BarReason::Cloned,
    };
    wire::Bar {
        since: Some(to_timestamp(barred.since)),
        reason: reason.into(),
        detail: barred.detail.clone(),
    }
}

/// Which list of packages a host has.
pub(in crate::api) fn package_summary(summary: PackageSummary) -> wire::PackageSummary {
    wire::PackageSummary {
        digest: summary.digest.0.to_vec(),
        count: summary.count,
    }
}

/// One installed package.
pub(in crate::api) fn package(package: Package) -> wire::Package {
    wire::Package {
        purl: package.to_string(),
        name: package.name,
        version: package.version,
        arch: package.arch,
    }
}

/// One host's part in a rollout.
pub(in crate::api) fn member(input: &PlanInput, member: &Member) -> rollout::Member {
    let outcome = member.outcome();
    let reason = match outcome {
        Outcome::Failed { class } => class.to_string(),
        Outcome::Excluded { reason } => reason.to_string(),
        Outcome::Succeeded | Outcome::Pending | Outcome::Unreached => String::new(),
    };
    let before = member.before.clone().flatten();
    rollout::Member {
        host: member.host.to_string(),
        wave: u32::from(member.wave) + 1,
        outcome: outcome.as_str().to_owned(),
        reason,
        detail: detail(member),
        since: Some(to_timestamp(member.since)),
        attempts: member.attempts,
        agent_state: agent_state(input, member).to_owned(),
        before: before.as_ref().map_or_else(String::new, Version::to_string),
        roll_back: member.roll_back.as_ref().map_or("", way_back).to_owned(),
    }
}

/// The state of the host's agent, where it works on this very assignment.
pub(super) fn agent_state(input: &PlanInput, member: &Member) -> &'static str {
    let status = input
        .hosts
        .get(&member.host)
        .and_then(|view| view.status.as_ref());
    let attempt = |status: &&comber_model::HostStatus| {
        let attempt = status.attempt.as_ref();
        attempt.is_some_and(|attempt| attempt.generation == member.generation)
    };
    status
        .filter(attempt)
        .map_or("", |status| status.state.as_str())
}

fn detail(member: &Member) -> String {
    let state = standing(member);
    match &member.roll_back {
        Some(RollBack::Failed { failure }) => format!("{state}; could not go back: {failure}"),
        Some(RollBack::Impossible { why }) => format!("{state}; cannot go back: {why}"),
        Some(RollBack::Wanted | RollBack::Done) | None => state,
    }
}

fn standing(member: &Member) -> String {
    let state = match &member.state {
        MemberState::Waiting => "waits for its turn".to_owned(),
        MemberState::Unreached { overdue: false } => "has not confirmed receipt".to_owned(),
        MemberState::Unreached { overdue: true } => {
            "has not confirmed receipt in time; catches up when it returns".to_owned()
        }
        MemberState::Received => "works".to_owned(),
        MemberState::Activating => "may activate".to_owned(),
        MemberState::Backoff { until } => format!("tries again at {until}"),
        MemberState::Succeeded { already: false } => "runs the release".to_owned(),
        MemberState::Succeeded { already: true } => "ran the release already".to_owned(),
        MemberState::Failed { failure } => return failure.to_string(),
        MemberState::Excluded { reason } => reason.to_string(),
    };
    match &member.last_failure {
        Some(failure) => format!("{state}; before: {failure}"),
        None => state,
    }
}

/// The word for a host's way back.
fn way_back(roll_back: &RollBack) -> &'static str {
    match roll_back {
        RollBack::Wanted => "wanted",
        RollBack::Done => "done",
        RollBack::Failed { .. } => "failed",
        RollBack::Impossible { .. } => "impossible",
    }
}

/// A token without its secret.
pub(in crate::api) fn token(token: &Token) -> enrolment::Token {
    let labels: BTreeMap<String, String> = token.labels.clone().into();
    let kind = match token.record.kind {
        TokenKind::Host => enrolment::IdentityKind::Host,
        TokenKind::Operator => enrolment::IdentityKind::Operator,
    };
    enrolment::Token {
        id: token.id(),
        kind: kind.into(),
        uses_left: token.record.uses_left,
        expires_at: Some(to_timestamp(token.record.expires)),
        name_pattern: token.record.names.to_string(),
        labels: labels.into_iter().collect(),
        created_by: token.created_by.clone(),
        created_at: Some(to_timestamp(token.created_at)),
    }
}
