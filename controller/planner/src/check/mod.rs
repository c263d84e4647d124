//! Proves a plan before it is committed, independently of the steps that made it.
//!
//! Nothing here shares code with `steps/`, nor with the arithmetic of gates and budgets: a mistake made twice in the
//! same way would prove nothing. It compares the input with what the plan leaves behind.

mod after;
mod budgets;
mod gates;
mod hosts;
mod members;
mod rollouts;
mod windows;

use std::collections::BTreeSet;

use comber_model::RolloutId;
use jiff::Timestamp;

use crate::{Plan, PlanInput};
use after::After;

/// One rule that a plan breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Whose plan it spoils; absent where it is the plan as a whole.
    pub rollout: Option<RolloutId>,
    /// The rule, with names and numbers, for people.
    pub text: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Odd, but harmless to hosts: logged, and the plan is carried out.
    Warning,
    /// The plan must not be carried out; its rollout is halted.
    Fatal,
}

/// Everything that is wrong with a plan made from this input at that time.
pub fn check(input: &PlanInput, plan: &Plan, now: Timestamp) -> Vec<Finding> {
    let mut findings = Findings::default();
    check_frame(input, plan, &mut findings);
    // What names unknown or double records cannot be looked at further.
    if findings.0.is_empty() {
        let after = After::new(input, plan, now);
        hosts::check(&after, &mut findings);
        members::check(&after, &mut findings);
        rollouts::check(&after, &mut findings);
        budgets::check(&after, &mut findings);
    }
    findings.0
}

/// The findings so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn fatal(&mut self, rollout: impl Into<Option<RolloutId>>, text: String) {
        let rollout = rollout.into();
        self.0.push(Finding {
            severity: Severity::Fatal,
            rollout,
            text,
        });
    }

    fn warn(&mut self, rollout: impl Into<Option<RolloutId>>, text: String) {
        let rollout = rollout.into();
        self.0.push(Finding {
            severity: Severity::Warning,
            rollout,
            text,
        });
    }
}

fn check_frame(input: &PlanInput, plan: &Plan, findings: &mut Findings) {
    if plan.parent != input.generation {
        findings.fatal(
            None,
            format!(
                "the plan was made upon {}, committed is {}",
                plan.parent, input.generation
            ),
        );
    }
    if plan.generation != plan.parent.next() {
        findings.fatal(
            None,
            format!(
                "generation {} does not follow {}",
                plan.generation, plan.parent
            ),
        );
    }
    let mut seen = BTreeSet::new();
    for rollout in &plan.rollouts {
        if !input.rollouts.contains_key(&rollout.id) || !seen.insert(rollout.id) {
            findings.fatal(
                None,
                format!("rollout {} is unknown or named twice", rollout.id),
            );
        }
    }
    let mut seen = BTreeSet::new();
    for (id, member) in &plan.members {
        let known = input.rollouts.contains_key(id) && input.hosts.contains_key(&member.host);
        if !known || !seen.insert((*id, &member.host)) {
            let text = format!("member {} of {id} is unknown or named twice", member.host);
            findings.fatal(None, text);
        }
    }
    let mut seen = BTreeSet::new();
    for (host, _) in &plan.desired {
        if !input.hosts.contains_key(host) || !seen.insert(host) {
            findings.fatal(None, format!("host {host} is unknown or named twice"));
        }
    }
}
