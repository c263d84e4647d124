//! The effects that are given and not done: one in hand, the others in their order.
//!
//! Invariant: at most one effect runs at a time, and one that is taken back never answers.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use comber_machine::{Answer, BootId, Effect, Event};
use comber_model::{Failure, FailureClass};

use crate::effects::{Effects, Noted, Verdict};
use crate::install::Fit;

type Running = Pin<Box<dyn Future<Output = Option<Event>> + Send>>;

/// What is to be done and what is being done.
pub(crate) struct Hands<E> {
    effects: Arc<E>,
    boot_id: BootId,
    queue: VecDeque<Effect>,
    in_hand: Option<InHand>,
}

struct InHand {
    effect: Effect,
    running: Running,
}

impl<E: Effects> Hands<E> {
    pub(crate) fn new(effects: Arc<E>, boot_id: BootId) -> Self {
        Self {
            effects,
            boot_id,
            queue: VecDeque::new(),
            in_hand: None,
        }
    }

    pub(crate) fn give(&mut self, effect: Effect) {
        self.queue.push_back(effect);
    }

    /// Takes back the attempt's effects. Looking at the disk and cleaning it up go on: they belong to no attempt.
    pub(crate) fn cancel(&mut self) {
        self.queue.retain(|effect| !belongs_to_attempt(effect));
        if self
            .in_hand
            .as_ref()
            .is_some_and(|in_hand| belongs_to_attempt(&in_hand.effect))
        {
            self.in_hand = None;
        }
    }

    /// True while the host is between two releases by what is in hand.
    pub(crate) fn is_switching(&self) -> bool {
        let switches = self.in_hand.as_ref().is_some_and(|in_hand| {
            matches!(
                in_hand.effect,
                Effect::Activate { .. } | Effect::RollBack { .. }
            )
        });
        switches && !self.effects.ends_with_agent()
    }

    /// Works on the effects until one has something to say. Cancel-safe: what is in hand stays there.
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            let in_hand = match &mut self.in_hand {
                Some(in_hand) => in_hand,
                None => match self.queue.pop_front() {
                    Some(effect) => {
                        let running = begin(Arc::clone(&self.effects), &effect, &self.boot_id);
                        self.in_hand.insert(InHand { effect, running })
                    }
                    None => std::future::pending().await,
                },
            };
            let said = in_hand.running.as_mut().await;
            self.in_hand = None;
            if let Some(event) = said {
                return event;
            }
        }
    }
}

fn belongs_to_attempt(effect: &Effect) -> bool {
    match effect {
        Effect::Fetch { .. }
        | Effect::Preflight { .. }
        | Effect::Activate { .. }
        | Effect::Reboot { .. }
        | Effect::Verify { .. }
        | Effect::RollBack { .. }
        | Effect::VerifyBack { .. } => true,
        Effect::Inspect | Effect::Cleanup { .. } | Effect::Cancel | Effect::Publish => false,
    }
}

/// The effect as a future, with what it comes to as an event.
fn begin<E: Effects>(effects: Arc<E>, effect: &Effect, here: &BootId) -> Running {
    match effect.clone() {
        Effect::Fetch { change } => Box::pin(async move {
            let fetched = effects.fetch(&change).await;
            Some(answer(fetched.map(|recipe| Answer::Fetched { recipe })))
        }),
        Effect::Preflight { change } => Box::pin(async move {
            let looked = effects.preflight(&change).await;
            Some(answer(looked.map(|fit| match fit {
                Fit::Fits => Answer::PreflightPassed,
                Fit::NotApplicable(why) => {
                    Answer::NotApplicable(Failure::new(FailureClass::Preflight, why))
                }
            })))
        }),
        Effect::Activate { change, leave } => Box::pin(async move {
            if let Some(leave) = leave {
                match effects.note(&change, &leave).await {
                    Ok(Noted::Ready) => {}
                    Ok(Noted::Lapsed) => return Some(Event::Answer(Answer::LeaveLapsed)),
                    Err(failure) => return Some(Event::Answer(Answer::StepFailed(failure))),
                }
            }
            let activated = effects.activate(&change).await;
            Some(answer(activated.map(|activated| Answer::ActivationDone {
                needs_reboot: activated.needs_reboot,
            })))
        }),
        Effect::Reboot { release, from } if from == *here => Box::pin(async move {
            let refused = effects.reboot(&release).await.err();
            refused.map(|why| Event::Answer(Answer::RebootRefused { why }))
        }),
        Effect::Verify { change, activated } => Box::pin(async move {
            Some(Event::Answer(
                match effects.verify(&change, activated).await {
                    Verdict::Passed => Answer::ChecksPassed,
                    Verdict::Failed(failure) => Answer::ChecksFailed(failure),
                    Verdict::Drifted => Answer::Drifted,
                },
            ))
        }),
        Effect::VerifyBack { change } => Box::pin(async move {
            Some(Event::Answer(match effects.verify_back(&change).await {
                Ok(()) => Answer::ChecksPassed,
                Err(failure) => Answer::ChecksFailed(failure),
            }))
        }),
        Effect::RollBack { change } => Box::pin(async move {
            Some(Event::Answer(match effects.roll_back(&change).await {
                Ok(()) => Answer::RolledBack,
                Err(failure) => Answer::RollBackFailed(failure),
            }))
        }),
        Effect::Inspect => Box::pin(async move {
            match effects.inspect().await {
                Ok(found) => Some(Event::Observed(found)),
                Err(failure) => {
                    tracing::warn!(%failure, "cannot look at what is installed");
                    None
                }
            }
        }),
        Effect::Cleanup { product, keep } => Box::pin(async move {
            effects.cleanup(&product, &keep).await;
            None
        }),
        Effect::Reboot { .. } | Effect::Cancel | Effect::Publish => Box::pin(async { None }),
    }
}

/// A step's success as its answer, its failure as the one answer of all steps.
fn answer(result: Result<Answer, Failure>) -> Event {
    Event::Answer(result.unwrap_or_else(Answer::StepFailed))
}
