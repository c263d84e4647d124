//! Text scenarios: a command, `----`, and what must follow. `UPDATE_SCENARIOS=1` writes what does follow; the diff is
//! then read as a change of behaviour.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use comber_machine::{
    Answer, BootId, Event, Found, Ledger, Note, Policy, Recipe, Transition, actual, resume, step,
};
use comber_model::assignment::Desired;
use comber_model::release::RebootPolicy;
use comber_model::{Action, Failure, FailureClass, Generation, Grant, Nonce, duration};
use jiff::{SignedDuration, Timestamp};

use crate::build;
use crate::show::{show, show_effect};

/// One host at the hands of a scenario.
struct Host {
    ledger: Ledger,
    recipe: Recipe,
    boot: u64,
    since_boot: Duration,
    wall: Timestamp,
    nonces: u64,
    connected: bool,
    edges: BTreeSet<String>,
}

impl Host {
    fn new() -> Self {
        let wall: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        Self {
            ledger: Ledger::new(wall),
            recipe: build::recipe(RebootPolicy::Never, false),
            boot: 1,
            since_boot: Duration::from_mins(1),
            wall,
            nonces: 0,
            connected: true,
            edges: BTreeSet::new(),
        }
    }

    fn now(&mut self) -> comber_machine::Now {
        self.nonces += 1;
        comber_machine::Now {
            connected: self.connected,
            ..build::now(self.boot, self.since_boot, self.wall, self.nonces)
        }
    }

    /// Runs one command and writes what follows.
    fn command(&mut self, line: &str) -> String {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "recipe" => self.set_recipe(rest),
            "wait" => {
                let by = duration::parse(rest).unwrap();
                self.since_boot += by;
                self.wall += by;
                String::new()
            }
            "wall-clock-jumps" => {
                let by: i64 = rest.parse().unwrap();
                self.wall += SignedDuration::from_hours(by);
                String::new()
            }
            "reboot" => {
                self.boot += 1;
                self.since_boot = Duration::from_secs(20);
                String::new()
            }
            "resume" => {
                let (now, found) = (self.now(), self.found(rest));
                let transition = resume(self.ledger.clone(), &found, &Policy::default(), &now);
                self.follow(transition)
            }
            "actual" => self.actual(),
            _ => {
                self.connected = (self.connected || word == "connected") && word != "disconnected";
                let event = self.event(word, rest);
                let now = self.now();
                let transition = step(&self.ledger, event, &Policy::default(), &now);
                self.follow(transition)
            }
        }
    }

    fn set_recipe(&mut self, words: &str) -> String {
        let reboot = match words {
            text if text.contains("required") => RebootPolicy::Required,
            text if text.contains("auto") => RebootPolicy::Auto,
            _ => RebootPolicy::Never,
        };
        self.recipe = build::recipe(reboot, words.contains("irreversible"));
        String::new()
    }

    fn event(&self, word: &str, rest: &str) -> Event {
        let answer = match word {
            "desired" => return desired(rest, self.asked()),
            "connected" => return Event::Connected,
            "disconnected" => return Event::Disconnected,
            "deadline" => return Event::Deadline,
            "observed" => return Event::Observed(self.found(rest)),
            "booted" => {
                let boot_id = BootId(format!("boot-{}", self.boot));
                return Event::BootObserved { boot_id };
            }
            "fetched" => Answer::Fetched {
                recipe: self.recipe.clone(),
            },
            "preflight-passed" => Answer::PreflightPassed,
            "not-applicable" => {
                let why = "no package of the release is installed";
                Answer::NotApplicable(Failure::new(FailureClass::Preflight, why))
            }
            "step-failed" => Answer::StepFailed(failure(rest)),
            "lapsed" => Answer::LeaveLapsed,
            "activated" => Answer::ActivationDone {
                needs_reboot: rest == "needs_reboot",
            },
            "reboot-refused" => Answer::RebootRefused {
                why: rest.to_owned(),
            },
            "checks-passed" => Answer::ChecksPassed,
            "checks-failed" => Answer::ChecksFailed(failure(rest)),
            "drifted" => Answer::Drifted,
            "rolled-back" => Answer::RolledBack,
            "roll-back-failed" => Answer::RollBackFailed(failure(rest)),
            other => panic!("no such command: {other}"),
        };
        Event::Answer(answer)
    }

    /// The request that stands; 0 where none does.
    fn asked(&self) -> Nonce {
        let attempt = actual(&self.ledger).attempt;
        attempt
            .and_then(|attempt| attempt.nonce)
            .unwrap_or(Nonce(0))
    }

    fn found(&self, words: &str) -> Found {
        let (mut active, mut kept, mut undone) = (None, Vec::new(), BTreeMap::new());
        let mut unfinished = BTreeSet::new();
        for word in words.split_whitespace() {
            match word.split_once('=').unwrap() {
                ("active", release) => active = Some(build::release(release)),
                ("kept", release) => kept.push(build::release(release)),
                ("unfinished", product) => {
                    unfinished.insert(product.parse().unwrap());
                }
                ("undone", release) => {
                    let why = Failure::new(FailureClass::Health, "the new agent never came up");
                    undone.insert(build::release(release), why);
                }
                other => panic!("no such option: {other:?}"),
            }
        }
        Found {
            undone,
            unfinished,
            ..build::found(active.as_ref(), &kept, &self.recipe)
        }
    }

    fn follow(&mut self, transition: Transition) -> String {
        let mut text = String::new();
        match &transition.note {
            Note::Moved { from, to } => {
                self.edges.insert(format!("{from} -> {to}"));
                writeln!(text, "{from} -> {to}").unwrap();
            }
            Note::Stayed => writeln!(text, "stayed").unwrap(),
            Note::OtherDatabase { was } => {
                let was = &was.to_string()[..2];
                writeln!(text, "another database than {was}..").unwrap();
            }
            Note::Ignored { reason } => {
                assert_eq!(
                    transition.next, self.ledger,
                    "an ignored event changed something"
                );
                assert!(transition.effects.is_empty());
                writeln!(text, "ignored: {reason}").unwrap();
                return text;
            }
        }
        for effect in &transition.effects {
            writeln!(text, "  {}", show_effect(effect)).unwrap();
        }
        self.ledger = transition.next;
        // Every ledger of every scenario reads back from its form on disk as it was.
        let json = self.ledger.to_json().unwrap();
        assert_eq!(Ledger::from_json(&json).unwrap(), self.ledger);
        writeln!(text, "{}", show(&self.ledger)).unwrap();
        text
    }

    fn actual(&self) -> String {
        let status = actual(&self.ledger);
        let attempt = status.attempt.map(|attempt| {
            let nonce = attempt.nonce.map(|nonce| nonce.0);
            format!(
                "{} #{} of {}, nonce {nonce:?}",
                attempt.release, attempt.number, attempt.generation
            )
        });
        let bad: Vec<_> = status.locally_bad.iter().map(ToString::to_string).collect();
        format!(
            "generation {}, {}, boot {}, attempt {}, bad {bad:?}\n",
            status.generation,
            status.state,
            status.boot_id,
            attempt.unwrap_or_else(|| "none".to_owned()),
        )
    }
}

/// `permit=asked/10m` answers the request that stands, a number a given one.
fn desired(words: &str, asked: Nonce) -> Event {
    let mut epoch = build::epoch(0xaa);
    let mut desired = Desired::default();
    for word in words.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let assigned = desired.assignment.as_mut();
        match key {
            "gen" => desired.generation = Generation(value.parse().unwrap()),
            "epoch" => epoch = build::epoch(u8::from_str_radix(value, 16).unwrap()),
            "install" => {
                let release = build::release(value);
                desired.assignment = Some(build::assignment(build::install(&release), release));
            }
            "remove" => {
                let release = build::release(value);
                desired.assignment = Some(build::assignment(Action::Remove, release));
            }
            "try" => assigned.unwrap().attempt = value.parse().unwrap(),
            "retry_bad" => assigned.unwrap().retry_bad = true,
            "rolls_back" => assigned.unwrap().rolls_back = true,
            "disconnected" => assigned.unwrap().disconnected = true,
            "ack" => desired.acknowledged = value.parse().unwrap(),
            "permit" => {
                let (nonce, ttl) = value.split_once('/').unwrap();
                desired.grant = Some(Grant {
                    nonce: nonce.parse().map_or(asked, Nonce),
                    granted_at: Timestamp::UNIX_EPOCH,
                    ttl: duration::parse(ttl).unwrap(),
                });
            }
            other => panic!("no such option: {other}"),
        }
    }
    Event::Desired { epoch, desired }
}

fn failure(words: &str) -> Failure {
    let (class, detail) = words.split_once(' ').unwrap_or((words, ""));
    let class = FailureClass::ALL
        .into_iter()
        .find(|known| known.as_str() == class);
    Failure::new(class.unwrap(), detail)
}

fn files() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machine/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

/// Runs one file. Returns what it should read and the edges it took.
fn play(source: &str) -> (String, BTreeSet<String>) {
    let (mut host, mut out, mut skipping) = (Host::new(), String::new(), false);
    for line in source.lines() {
        match line {
            "" => {
                skipping = false;
                out.push('\n');
            }
            "----" => skipping = true,
            _ if skipping => {}
            comment if comment.starts_with('#') => writeln!(out, "{comment}").unwrap(),
            command => {
                let follows = host.command(command);
                writeln!(out, "{command}").unwrap();
                if !follows.is_empty() {
                    write!(out, "----\n{follows}").unwrap();
                }
            }
        }
    }
    (out, host.edges)
}

#[test]
fn scenarios_read_as_the_machine_behaves() {
    #[expect(
        clippy::disallowed_methods,
        reason = "a switch for developers, read by tests only"
    )]
    let update = std::env::var_os("UPDATE_SCENARIOS").is_some();
    for file in files() {
        let source = std::fs::read_to_string(&file).unwrap();
        let (played, _) = play(&source);
        if update {
            std::fs::write(&file, &played).unwrap();
        }
        assert!(
            update || played == source,
            "{} differs; with UPDATE_SCENARIOS=1 it would read:\n{played}",
            file.display()
        );
    }
}

#[test]
fn scenarios_take_every_edge_and_no_other() {
    let mut taken = BTreeSet::new();
    for file in files() {
        taken.append(&mut play(&std::fs::read_to_string(&file).unwrap()).1);
    }
    let edges: BTreeSet<String> = EDGES
        .iter()
        .flat_map(|(from, to)| to.iter().map(move |to| format!("{from} -> {to}")))
        .collect();
    let missing: Vec<_> = edges.difference(&taken).collect();
    let other: Vec<_> = taken.difference(&edges).collect();
    assert!(
        missing.is_empty() && other.is_empty(),
        "not taken {missing:?}, unknown {other:?}"
    );
}

/// Every move that one event can make. An end of an attempt with another assignment waiting goes through two states
/// at once; those moves stand in the second line of each.
const EDGES: &[(&str, &[&str])] = &[
    ("idle", &["fetching", "verifying"]),
    ("fetching", &["idle", "staged"]),
    ("fetching", &["verifying"]),
    ("staged", &["idle", "awaiting_permit"]),
    ("staged", &["fetching", "verifying"]),
    ("awaiting_permit", &["idle", "activating"]),
    ("awaiting_permit", &["fetching", "verifying"]),
    (
        "activating",
        &[
            "awaiting_permit",
            "idle",
            "rebooting",
            "verifying",
            "rolling_back",
            "broken",
        ],
    ),
    ("rebooting", &["verifying", "rolling_back", "broken"]),
    (
        "verifying",
        &["committed", "fetching", "idle", "rolling_back", "broken"],
    ),
    ("committed", &["idle", "fetching", "verifying", "broken"]),
    ("rolling_back", &["rolled_back", "rebooting", "broken"]),
    ("rolling_back", &["fetching"]),
    ("rolling_back", &["awaiting_permit", "idle"]),
    ("rolled_back", &["idle", "fetching", "broken"]),
    ("broken", &["fetching"]),
    ("fetching", &["broken"]),
];
