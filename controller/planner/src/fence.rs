//! The fence of an abort: which hosts can still begin to activate a release that was stopped.
//!
//! A host is out of the fence only when it said so (it accepted a newer desired state without having activated), when
//! it began to activate before (nothing can be stopped then; it finishes alone), or when its permit is surely dead.

use comber_model::rollout::{ExcludedReason, Member, MemberState};
use comber_model::{Grant, HostId, RolloutId};
use jiff::Timestamp;

use crate::windows::{Leave, Leaves};
use crate::{HostView, PlanInput};

/// Hosts that can still activate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fence {
    /// Them.
    pub open: Vec<HostId>,
    /// When the last of their permits is surely dead; absent where none is open.
    pub until: Option<Timestamp>,
}

impl Fence {
    /// True where no host can activate any more.
    pub fn is_closed(&self) -> bool {
        self.open.is_empty()
    }
}

/// What `abort --wait` waits for. Closed also for a rollout that does not exist. Means something once the rollout gives
/// no permits any more: while it runs, a closed fence can open again.
pub fn fence(input: &PlanInput, id: RolloutId, now: Timestamp) -> Fence {
    let mut fence = Fence::default();
    let Some(view) = input.rollouts.get(&id) else {
        return fence;
    };
    // Every member with a permit that may be alive is in `attention`.
    for member in view
        .attention
        .iter()
        .filter_map(|host| view.members.get(host))
    {
        let Some(grant) = &member.grant else { continue };
        let host = input.hosts.get(&member.host);
        if now < grant.dead_at() && !host.is_some_and(|host| is_out(member, host)) {
            fence.open.push(member.host.clone());
            fence.until = fence.until.max(Some(grant.dead_at()));
        }
    }
    fence
}

/// Hosts of all rollouts that time holds now, by a freeze or for want of a window, and that hold a permit from before
/// which they may still use. Whether a plan has taken it back already makes no difference.
pub fn held_too_late(input: &PlanInput, now: Timestamp) -> Fence {
    let leaves = Leaves::default();
    let mut all = Fence::default();
    for (id, view) in &input.rollouts {
        let fence = fence(input, *id, now);
        let is_shut = |host: &HostId| {
            let (Some(member), Some(host)) = (view.members.get(host), input.hosts.get(host)) else {
                return false;
            };
            let rollout = (*id, view.rollout.spec.as_ref());
            let host = (&host.host, member.roll_back.is_some());
            let leave = leaves.of(&input.freezes, rollout, host, now);
            matches!(leave, Leave::Shut(_))
        };
        let before = all.open.len();
        all.open.extend(fence.open.into_iter().filter(is_shut));
        if all.open.len() > before {
            all.until = all.until.max(fence.until);
        }
    }
    all
}

/// True where the host has said that it will not, or did already, use the member's permit.
pub(crate) fn is_out(member: &Member, host: &HostView) -> bool {
    is_active_for(member, host) || has_acknowledged_cancel(member, host)
}

/// True while the host, as last heard, is between its first change and the end of this member's attempt.
pub(crate) fn is_active_for(member: &Member, host: &HostView) -> bool {
    let Some(status) = &host.status else {
        return false;
    };
    let attempt = status.attempt.as_ref();
    status.state.is_active() && attempt.is_some_and(|a| a.generation == member.generation)
}

/// True where the host is down on behalf of this member, or may be: it is active, or holds a permit that may be alive,
/// or was given one and has not been heard of since.
pub(crate) fn is_in_flight(member: &Member, host: &HostView, now: Timestamp) -> bool {
    let may_use = |grant: &Grant| now < grant.dead_at() || !host.link.is_up();
    member.grant.as_ref().is_some_and(may_use) || is_active_for(member, host)
}

fn has_acknowledged_cancel(member: &Member, host: &HostView) -> bool {
    let cancelled = host.desired.generation > member.generation;
    let accepted = host.status.as_ref().map(|status| status.generation);
    cancelled && accepted >= Some(host.desired.generation)
}

/// True where an aborted rollout has not yet made sure of this member: durable, so that the plan that resolves the last
/// one knows that it does.
pub(crate) fn is_unresolved(member: &Member) -> bool {
    match &member.state {
        MemberState::Waiting
        | MemberState::Unreached { .. }
        | MemberState::Received
        | MemberState::Backoff { .. } => true,
        // Without a permit, an activating member is one whose host has shown that it began.
        MemberState::Activating | MemberState::Succeeded { .. } | MemberState::Failed { .. } => {
            member.grant.is_some()
        }
        // The permit of a cancelled host is dead; that of a retired one may not be.
        MemberState::Excluded { reason } => {
            *reason != ExcludedReason::Cancelled && member.grant.is_some()
        }
    }
}
