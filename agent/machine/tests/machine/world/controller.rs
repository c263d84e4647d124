//! The controller of the model: what it plans, grants and says.

use std::time::Duration;

use comber_machine::Event;
use comber_model::assignment::Desired;
use comber_model::{Action, Assignment, Generation, Grant, Nonce};
use jiff::Timestamp;

use super::{World, version};
use crate::build;
use crate::ops::Wish;

impl World {
    pub(super) fn replan(&mut self, assignment: Option<Assignment>) {
        self.old = Some((self.epoch, self.plan.clone()));
        self.plan.generation = Generation(self.plan.generation.0 + 1);
        self.plan.assignment = assignment;
        self.plan.grant = None;
        let key = (self.epoch, self.plan.generation);
        self.watch.plans.insert(key, self.plan.assignment.clone());
        self.say();
    }

    /// A message can be on its way when the stream breaks, so it may come while disconnected.
    pub(super) fn say(&mut self) {
        self.deliver(self.epoch, self.plan.clone());
    }

    pub(super) fn say_old(&mut self) {
        if let Some((epoch, mut old)) = self.old.clone()
            && epoch == self.epoch
        {
            old.grant = self.shown_request(Duration::from_hours(1)).or(old.grant);
            self.deliver(epoch, old);
        }
    }

    pub(super) fn deliver(&mut self, epoch: u8, desired: Desired) {
        if let Some(grant) = desired.grant {
            let longest = self.watch.granted.entry(grant.nonce).or_default();
            *longest = grant.ttl.max(*longest);
        }
        let epoch = build::epoch(epoch);
        self.watch.acknowledged = self.watch.acknowledged.max(desired.acknowledged);
        self.happen(Event::Desired { epoch, desired }, true);
    }

    pub(super) fn shown_request(&self, ttl: Duration) -> Option<Grant> {
        let (_, status) = self.watch.shown.as_ref()?;
        let nonce = status.attempt.as_ref()?.nonce?;
        Some(grant(nonce.0, ttl))
    }

    pub(super) fn grant(&mut self, ttl: Duration) {
        if let Some(grant) = self.shown_request(ttl) {
            self.plan.grant = Some(grant);
        }
        self.say();
    }

    pub(super) fn acknowledge(&mut self) {
        if let Some((_, status)) = &self.watch.shown {
            let newest = status.reports.last().map_or(0, |report| report.number);
            self.plan.acknowledged = self.plan.acknowledged.max(newest);
        }
        self.say();
    }
}

pub(super) fn grant(nonce: u64, ttl: Duration) -> Grant {
    Grant {
        nonce: Nonce(nonce),
        granted_at: Timestamp::UNIX_EPOCH,
        ttl,
    }
}

pub(super) fn assignment(wish: &Wish) -> Assignment {
    let release = version(wish.version);
    let action = if wish.remove {
        Action::Remove
    } else {
        build::install(&release)
    };
    Assignment {
        retry_bad: wish.retry_bad,
        rolls_back: wish.rolls_back,
        disconnected: wish.disconnected,
        ..build::assignment(action, release)
    }
}
