//! Following a rollout: one loop over the controller's streams, shown live or as lines.
//!
//! ```text
//!   WatchRollout ──┐                        ┌─> live: a frame redrawn in place (a terminal)
//!   WatchEvents ───┼──> Watch (Frame) ──────┼─> lines: one for each change (a log)
//!   ExplainRollout ┘                        └─> JSON lines
//! ```
//!
//! One task; it ends when the rollout reaches the goal. Invariant: a lost connection is told and mended, and no event is
//! shown twice or left out.

mod feed;
mod live;
mod meter;
mod ticker;

use std::collections::VecDeque;
use std::time::Duration;

use comber_proto::event::v1::Event;
use comber_proto::rollout::v1::{ExplainRolloutRequest, Rollout, RolloutState};
use comber_runtime::backoff::Backoff;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic::Status;

use crate::client::Client;
use crate::error::Outcome;
use crate::render::{self, Frame, json};
use crate::screen::Screen;
use crate::status::{is_connection, transport_cause};
use feed::{Feed, News};
use live::Live;
pub(crate) use meter::Meter;
pub(crate) use ticker::Ticker;

/// Events shown below the waves of a live view.
const EVENTS: usize = 6;
/// How often a live view is redrawn for its times, and the holds are asked for at most.
const TICK: Duration = Duration::from_secs(1);
/// The controller sends at most about four times a second; asking for holds more often would add nothing.
const HOLDS_PAUSE: Duration = Duration::from_secs(2);

/// What a watch waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// The rollout is over.
    Over,
    /// It does not roll back any more.
    Back,
}

/// How a watch ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The goal was reached; the rollout as it was then.
    Reached(Box<Rollout>),
    /// The person broke it off.
    Interrupted,
    /// Its time was over.
    TimedOut,
}

/// One rollout being watched.
#[derive(Debug)]
pub(crate) struct Watch {
    client: Client,
    id: String,
    screen: Screen,
    goal: Goal,
    live: Option<Live>,
    frame: Frame,
    events: VecDeque<Event>,
    /// The last event that was seen; the stream goes on after it.
    after: u64,
    holds_asked: Option<Instant>,
}

impl Watch {
    /// Nothing is asked yet.
    pub(crate) fn new(client: Client, id: String, screen: Screen, goal: Goal) -> Self {
        Self {
            live: screen.is_live().then(Live::new),
            client,
            id,
            screen,
            goal,
            frame: Frame::default(),
            events: VecDeque::new(),
            after: 0,
            holds_asked: None,
        }
    }

    /// Watches until the goal is reached, over as many connections as it takes.
    pub(crate) async fn run(&mut self) -> Outcome<Rollout> {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));
        loop {
            let status = match self.connection(&mut backoff).await? {
                Ok(rollout) => return Ok(rollout),
                Err(status) => status,
            };
            if !is_connection(&status) {
                return Err(self.client.refused(&format!("watch {}", self.id), &status));
            }
            self.lost(&status)?;
            tokio::time::sleep(backoff.ceiling()).await;
            backoff.next(u64::MAX);
        }
    }

    /// Leaves the last frame where it is, for the summary to stand below.
    pub(crate) fn finish(&mut self) {
        if let Some(live) = self.live.take() {
            live.finish();
        }
    }

    /// One connection: until the goal, or until it breaks.
    async fn connection(&mut self, backoff: &mut Backoff) -> Outcome<Result<Rollout, Status>> {
        let last = u32::try_from(EVENTS).unwrap_or(u32::MAX);
        let mut feed = match Feed::open(&self.client, &self.id, self.after, last).await {
            Ok(feed) => feed,
            Err(status) => return Ok(Err(status)),
        };
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            // Both arms are cancel-safe: the feed keeps what it has not given out, and a tick is only a tick.
            let news = tokio::select! {
                news = feed.next() => news,
                _ = ticks.tick() => Ok(News::Nothing),
            };
            match news {
                Ok(News::Rollout(rollout)) => {
                    backoff.reset();
                    self.found()?;
                    let reached = is_reached(self.goal, &rollout);
                    self.take(*rollout)?;
                    if reached {
                        self.remaining_events().await?;
                        self.draw();
                        return Ok(Ok(self.frame.rollout.clone()));
                    }
                }
                Ok(News::Event(event)) => self.happened(*event)?,
                Ok(News::Nothing) => self.refresh_holds().await,
                Err(status) => return Ok(Err(status)),
            }
            self.draw();
        }
    }

    /// The rollout as it is now.
    fn take(&mut self, rollout: Rollout) -> Outcome<()> {
        let changed = differs(&self.frame.rollout, &rollout);
        if self.screen.is_json() {
            if self.frame.rollout != rollout {
                let rollout = Box::new(json::Rollout::from(&rollout));
                self.json_line(&json::WatchLine::Rollout { rollout })?;
            }
        } else if self.live.is_none() && changed {
            let line = render::outcome_line(&self.screen.view(), &rollout);
            self.screen.print(&format!("{line}\n"))?;
        }
        self.frame.rollout = rollout;
        Ok(())
    }

    fn happened(&mut self, event: Event) -> Outcome<()> {
        // Numbers only rise; one that was seen before the connection broke is not shown again.
        if event.number <= self.after {
            return Ok(());
        }
        self.after = event.number;
        if self.screen.is_json() {
            let event = Box::new(json::Event::from(&event));
            self.json_line(&json::WatchLine::Event { event })?;
        } else if self.live.is_none() && is_worth_a_line(&event) {
            let line = render::event_line(&self.screen.view(), &event);
            self.screen.print(&format!("{line}\n"))?;
        }
        self.events.push_back(event);
        while self.events.len() > EVENTS {
            self.events.pop_front();
        }
        Ok(())
    }

    /// What happened up to the end, where the streams did not bring it in time. Decoration: a failure changes nothing.
    async fn remaining_events(&mut self) -> Outcome<()> {
        let Ok(mut feed) = Feed::rest(&self.client, &self.id, self.after).await else {
            return Ok(());
        };
        while let Ok(Some(event)) = feed.message().await {
            if let Some(event) = event.event {
                self.happened(event)?;
            }
        }
        Ok(())
    }

    /// Why waves wait, for the live view; asked for now and then, and left as it was where that fails.
    async fn refresh_holds(&mut self) {
        let due = self
            .holds_asked
            .is_none_or(|asked| asked.elapsed() >= HOLDS_PAUSE);
        if self.live.is_none() || !due {
            return;
        }
        self.holds_asked = Some(Instant::now());
        let request = ExplainRolloutRequest {
            id: self.id.clone(),
        };
        if let Ok(answer) = self.client.rollouts().explain_rollout(request).await {
            self.frame.holds = answer.into_inner().waves;
        }
    }

    fn lost(&mut self, status: &Status) -> Outcome<()> {
        if self.frame.lost.is_some() {
            return Ok(());
        }
        let cause = transport_cause(status)
            .split("; ")
            .next()
            .unwrap_or_default()
            .to_owned();
        if self.screen.is_json() {
            let (connected, cause) = (false, cause.clone());
            self.json_line(&json::WatchLine::Connection { connected, cause })?;
        } else if self.live.is_none() {
            self.screen.note(&format!(
                "connection to the controller lost ({cause}); trying again"
            ));
        }
        self.frame.lost = Some(cause);
        self.draw();
        Ok(())
    }

    fn found(&mut self) -> Outcome<()> {
        if self.frame.lost.take().is_none() {
            return Ok(());
        }
        if self.screen.is_json() {
            let (connected, cause) = (true, String::new());
            return self.json_line(&json::WatchLine::Connection { connected, cause });
        }
        if self.live.is_none() {
            self.screen.note("connected again");
        }
        Ok(())
    }

    /// A line for a program that follows. One that waits for the way back gets one document at the end in place of them.
    fn json_line(&self, line: &json::WatchLine) -> Outcome<()> {
        match self.goal {
            Goal::Over => self.screen.print_json_line(line),
            Goal::Back => Ok(()),
        }
    }

    fn draw(&mut self) {
        let Some(live) = &mut self.live else { return };
        if self.frame.rollout.id.is_empty() {
            return;
        }
        self.frame.events = self.events.iter().cloned().collect();
        live.draw(&render::frame(&self.screen.view(), &self.frame));
    }
}

fn is_reached(goal: Goal, rollout: &Rollout) -> bool {
    match rollout.state() {
        RolloutState::Halted | RolloutState::Completed | RolloutState::Aborted => true,
        RolloutState::Unspecified | RolloutState::RollingBack => false,
        RolloutState::Draft | RolloutState::Running | RolloutState::Paused => goal == Goal::Back,
    }
}

/// Whether a log wants a line: state, outcomes, open waves or the way back are different.
fn differs(before: &Rollout, now: &Rollout) -> bool {
    let open = |rollout: &Rollout| {
        rollout
            .waves
            .iter()
            .filter(|wave| wave.opened_at.is_some())
            .count()
    };
    before.state != now.state
        || before.outcomes != now.outcomes
        || before.roll_back != now.roll_back
        || open(before) != open(now)
}

/// A host that succeeds is in the line of outcomes already; anything else stands out.
fn is_worth_a_line(event: &Event) -> bool {
    event.kind != "outcome_changed"
        || !matches!(
            event.outcome_after.as_str(),
            "succeeded" | "pending" | "unreached"
        )
}
