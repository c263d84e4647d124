//! How a watched rollout ended: outcomes, failures by class with one example each, and what to type next.
//!
//! Pure. Invariant: the exit code and the text come from the same state.

use comber_proto::rollout::v1::{Member, Rollout, RolloutState};

use super::outcomes::{sentence, state_of, state_paint, state_word};
use super::rollout::roll_back;
use super::table::{Table, cell, number, prose, text};
use super::text::{counts, next, wrap};
use super::{Paint, View};
use crate::exit::Exit;

/// What there is to say at the end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Summary {
    /// As it is now.
    pub(crate) rollout: Rollout,
    /// Failed hosts: one of each class at least.
    pub(crate) failed: Vec<Member>,
    /// Commands that make sense now.
    pub(crate) next: Vec<String>,
}

impl Summary {
    /// The documented exit code of a watch.
    pub(crate) fn exit(&self) -> Exit {
        let outcomes = self.rollout.outcomes.unwrap_or_default();
        match state_of(&self.rollout) {
            RolloutState::Completed if outcomes.failed + outcomes.unreached > 0 => {
                Exit::HostsFailed
            }
            RolloutState::Completed => Exit::Ok,
            RolloutState::Halted => Exit::Halted,
            RolloutState::Aborted => Exit::Aborted,
            RolloutState::Unspecified
            | RolloutState::Draft
            | RolloutState::Running
            | RolloutState::Paused
            | RolloutState::RollingBack => Exit::Interrupted,
        }
    }
}

/// The text.
pub(crate) fn summary(view: &View, summary: &Summary) -> String {
    let rollout = &summary.rollout;
    let took = match (super::at(rollout.started_at), super::at(rollout.since)) {
        (Some(begun), Some(ended)) if ended >= begun => {
            let took = ended.duration_since(begun).try_into().unwrap_or_default();
            format!(" after {}", super::time::length(took))
        }
        _ => String::new(),
    };
    let mut out = format!(
        "{} ({}) is {}{took}\n",
        view.paint(Paint::Strong, &rollout.id),
        rollout.release,
        view.paint(state_paint(rollout), state_word(rollout)),
    );
    out.push_str(&wrap(
        view,
        "",
        &sentence(view, &rollout.outcomes.unwrap_or_default()),
    ));
    if let Some(halt) = &rollout.halt {
        out.push_str(&wrap(
            view,
            "",
            &format!("halted in wave {}: {}", halt.wave, halt.text),
        ));
    }
    out.push_str(&roll_back(view, rollout));
    out.push_str(&failures(view, summary));
    out.push_str(&next(view, &summary.next));
    out
}

fn failures(view: &View, summary: &Summary) -> String {
    let classes = counts(&summary.rollout.failed_by_class);
    if classes.iter().all(|(_, count)| *count == 0) {
        return String::new();
    }
    let mut table = Table::new([
        text("FAILED", 9, 9),
        number("HOSTS", 8),
        text("FOR EXAMPLE", 10, 7),
        prose("WHY", 20, 8),
    ]);
    for (class, count) in classes.into_iter().filter(|(_, count)| *count > 0) {
        let example = summary.failed.iter().find(|member| member.reason == class);
        table.row([
            cell(Paint::Bad, class),
            count.to_string().into(),
            example
                .map(|member| member.host.clone())
                .unwrap_or_default()
                .into(),
            example
                .map(|member| super::host::told(member).to_owned())
                .unwrap_or_default()
                .into(),
        ]);
    }
    format!("\n{}", table.render(view))
}
