//! Questions of a gate to others: when they are asked, what their answers mean, and what holds meanwhile.
//!
//! The planner asks by writing a round into the rollout's record; whoever talks to the sources gives each answer to
//! [`answer`], which writes it beside the round. An answer counts only for the round that asked for it.

use comber_model::event::{Event, EventKind};
use comber_model::rollout::{
    ANSWER_WITHIN, Answer, Gate, PrometheusQuery, Question, Rollout, RolloutState, Round, Verdict,
    Webhook,
};
use comber_model::{Hold, Invalid, RolloutId};
use jiff::Timestamp;

use crate::{CommandEffect, PlanInput, gate, time};

/// One question that waits for its answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct QuestionId {
    /// On whose behalf.
    pub rollout: RolloutId,
    /// Index of the wave that is to open, from 0.
    pub wave: u16,
    /// Which try.
    pub number: u32,
    /// When it was asked: tells a try from one of that number before a resume.
    pub asked_at: Timestamp,
    /// Which question of the gate, from 0.
    pub question: u16,
}

/// What is asked, with all that whoever asks needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Which it is.
    pub id: QuestionId,
    /// What is asked of whom.
    pub what: AskedWhat,
    /// The release that the rollout brings, for the one who is asked.
    pub release: String,
    /// What people call the wave.
    pub wave_name: String,
}

/// A question on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskedWhat {
    /// To Prometheus.
    Prometheus(PrometheusQuery),
    /// To a program of one's own.
    Webhook(Webhook),
}

/// Every question that waits for an answer.
pub fn asked(input: &PlanInput, now: Timestamp) -> Vec<Asked> {
    let mut asked = Vec::new();
    let running = input
        .rollouts
        .values()
        .map(|view| &view.rollout)
        .filter(|rollout| rollout.state == RolloutState::Running);
    for rollout in running {
        for (wave, progress) in rollout.waves.iter().enumerate() {
            let round = progress.round.as_ref();
            let Some(round) = round.filter(|round| now < deadline(round)) else {
                continue;
            };
            let questions = rollout.spec.waves[wave].gate.questions().enumerate();
            for (index, question) in questions {
                if progress.opened_at.is_none() && answer_to(round, index).is_none() {
                    asked.push(Asked {
                        id: QuestionId {
                            rollout: rollout.id,
                            wave: gate::number(wave) - 1,
                            number: round.number,
                            asked_at: round.asked_at,
                            question: u16::try_from(index).unwrap_or(u16::MAX),
                        },
                        what: match question {
                            Question::Prometheus(query) => AskedWhat::Prometheus(query.clone()),
                            Question::Webhook(hook) => AskedWhat::Webhook(hook.clone()),
                        },
                        release: rollout.spec.release.to_string(),
                        wave_name: rollout.spec.wave_name(wave),
                    });
                }
            }
        }
    }
    asked
}

/// Takes an answer in; nothing where nobody waits for it any more.
pub fn answer(
    input: &PlanInput,
    id: &QuestionId,
    (verdict, reason): (Verdict, &str),
    now: Timestamp,
) -> Option<CommandEffect> {
    let view = input.rollouts.get(&id.rollout)?;
    let mut rollout = view.rollout.clone();
    if rollout.state != RolloutState::Running {
        return None;
    }
    let wave = usize::from(id.wave);
    let gate = rollout.spec.waves.get(wave)?.gate.clone();
    let question = gate.questions().nth(usize::from(id.question))?;
    let progress = rollout.waves.get_mut(wave)?;
    let is_open = progress.opened_at.is_some();
    let round = progress.round.as_mut().filter(|round| {
        (round.number, round.asked_at) == (id.number, id.asked_at)
            && !is_open
            && answer_to(round, usize::from(id.question)).is_none()
    })?;
    let answer = Answer::new(id.question, now, verdict, reason);
    let dry = match (gate.is_dry(question), verdict) {
        (true, Verdict::Fail) => "; it is a dry run, or the rollout would halt",
        (true, Verdict::Inconclusive) => "; it is a dry run, or the wave would wait",
        (true, Verdict::Pass) => "; it is a dry run",
        (false, _) => "",
    };
    let text = format!(
        "{}: {question} says {verdict} to {}: {}{dry}",
        id.rollout,
        rollout.spec.wave_name(wave),
        answer.reason
    );
    round.answers.push(answer);
    round.answers.sort_by_key(|answer| answer.question);
    let event = Event {
        at: now,
        kind: EventKind::GateAnswered,
        rollout: Some(id.rollout),
        wave: Some(id.wave),
        host: None,
        actor: None,
        text,
        change: None,
        outcomes: Some(view.outcomes()),
    };
    Some(CommandEffect {
        rollout,
        events: vec![event],
    })
}

/// Sources that a rollout file names and the controller does not know, or knows as something else.
pub fn unknown_sources(
    input: &PlanInput,
    spec: &comber_model::rollout::RolloutSpec,
) -> Vec<Invalid> {
    let mut found = Vec::new();
    for (index, wave) in spec.waves.iter().enumerate() {
        for question in wave.gate.questions() {
            let (name, kind) = (question.source(), question.kind().as_str());
            let known = input.sources.get(name);
            if known == Some(&question.kind()) {
                continue;
            }
            let problem = known.map_or_else(
                || no_source(input, question),
                |other| format!("source {name} is a {}, no {kind}", other.as_str()),
            );
            found.push(Invalid::new(format!("wave[{index}].gate.{kind}"), problem));
        }
    }
    found
}

/// Says that there is no such source, and which there are.
fn no_source(input: &PlanInput, question: Question<'_>) -> String {
    let (name, kind) = (question.source(), question.kind());
    let known = input.sources.iter().filter(|(_, other)| **other == kind);
    let known: Vec<&str> = known.map(|(name, _)| name.as_str()).collect();
    let hint = if known.is_empty() {
        format!("name one in the controller's configuration, under [sources.{name}]")
    } else {
        format!("known are {}", known.join(", "))
    };
    format!(
        "the controller has no {} source {name}; {hint}",
        kind.as_str()
    )
}

/// Until when answers to a round are waited for.
pub(crate) fn deadline(round: &Round) -> Timestamp {
    time::after(round.asked_at, ANSWER_WITHIN)
}

fn answer_to(round: &Round, question: usize) -> Option<&Answer> {
    let mut answers = round.answers.iter();
    answers.find(|answer| usize::from(answer.question) == question)
}

/// What the answers of a round come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Result {
    /// Every question that counts says pass.
    Pass,
    /// One says fail.
    Fail { question: String, why: String },
    /// One has not been answered and is still waited for.
    Open { question: String },
    /// One says neither, or its answer has not come in time.
    Inconclusive { question: String, why: String },
}

/// What a round comes to now: a fail counts at once, the rest when all have answered.
pub(crate) fn result(gate: &Gate, round: &Round, now: Timestamp) -> Result {
    let is_over = deadline(round) <= now;
    let (mut open, mut unclear) = (None, None);
    for (index, question) in gate.questions().enumerate() {
        let (named, is_dry) = (question.to_string(), gate.is_dry(question));
        match answer_to(round, index) {
            Some(answer) => match answer.verdict {
                Verdict::Fail if !is_dry => {
                    let why = answer.reason.clone();
                    return Result::Fail {
                        question: named,
                        why,
                    };
                }
                Verdict::Inconclusive if !is_dry => {
                    unclear = unclear.or_else(|| Some((named, answer.reason.clone())));
                }
                Verdict::Pass | Verdict::Fail | Verdict::Inconclusive => {}
            },
            None if !is_over => open = open.or(Some(named)),
            None if !is_dry => {
                unclear = unclear.or_else(|| Some((named, "no answer in time".to_owned())));
            }
            None => {}
        }
    }
    match (open, unclear) {
        (Some(question), _) => Result::Open { question },
        (None, Some((question, why))) => Result::Inconclusive { question, why },
        (None, None) => Result::Pass,
    }
}

/// When a round that came to nothing clear is followed by the next.
pub(crate) fn next_try(gate: &Gate, round: &Round) -> Timestamp {
    let answered = gate.questions().count() == round.answers.len();
    let last = round.answers.iter().map(|answer| answer.at).max();
    let ended = last.filter(|_| answered).unwrap_or_else(|| deadline(round));
    time::after(ended, gate.every)
}

/// What the questions of a wave's gate hold it by; absent where they let it open.
pub(crate) fn hold(rollout: &Rollout, wave: usize, now: Timestamp) -> Option<Hold> {
    let gate = &rollout.spec.waves.get(wave)?.gate;
    let round = rollout.waves.get(wave)?.round.as_ref()?;
    let number = gate::number(wave);
    match result(gate, round, now) {
        Result::Pass | Result::Fail { .. } => None,
        Result::Open { question } => Some(Hold::GateAsked {
            wave: number,
            question,
            since: round.asked_at,
            until: deadline(round),
        }),
        Result::Inconclusive { question, why } => Some(Hold::GateInconclusive {
            wave: number,
            question,
            why,
            number: round.number,
            tries: gate.tries,
            until: next_try(gate, round),
        }),
    }
}

/// The gate that has been asked as often as it may without a clear answer: its wave, the question and the reason.
pub(crate) fn undecided(rollout: &Rollout, now: Timestamp) -> Option<(usize, String, String)> {
    let waves = rollout.waves.iter().enumerate();
    let mut unopened = waves.filter(|(_, progress)| progress.opened_at.is_none());
    unopened.find_map(|(wave, progress)| {
        let (gate, round) = (
            &rollout.spec.waves.get(wave)?.gate,
            progress.round.as_ref()?,
        );
        match result(gate, round, now) {
            Result::Inconclusive { question, why } if round.number >= gate.tries => {
                Some((wave, question, why))
            }
            Result::Inconclusive { .. }
            | Result::Pass
            | Result::Fail { .. }
            | Result::Open { .. } => None,
        }
    })
}

/// The fail of a gate that stands, with its question and reason.
pub(crate) fn failed(rollout: &Rollout, now: Timestamp) -> Option<(usize, String, String)> {
    let waves = rollout.waves.iter().enumerate();
    let mut unopened = waves.filter(|(_, progress)| progress.opened_at.is_none());
    unopened.find_map(|(wave, progress)| {
        let (gate, round) = (
            &rollout.spec.waves.get(wave)?.gate,
            progress.round.as_ref()?,
        );
        match result(gate, round, now) {
            Result::Fail { question, why } => Some((wave, question, why)),
            Result::Inconclusive { .. } | Result::Pass | Result::Open { .. } => None,
        }
    })
}

/// Forgets what was asked: the next time all is asked anew.
pub(crate) fn forget(rollout: &mut Rollout) {
    for progress in &mut rollout.waves {
        if progress.opened_at.is_none() {
            progress.round = None;
        }
    }
}
