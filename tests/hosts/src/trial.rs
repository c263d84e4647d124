//! One trial: a release is rolled out to one host, which is cut off at one instant, and must end on one side and say which.
//!
//! A cut takes the power or kills the agent. The instant is a state of the agent's ledger or a time. To hit a state the
//! ledger is watched and the whole host is frozen where it shows it, then looked at again: what is cut is a host that is
//! in that state. Invariant: a trial that missed its state says so and never counts as passed.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use comber_machine::{Ledger, State};
use comber_model::AgentState;
use comber_test_support::wait;
use serde_json::Value;

use crate::lab::LONG;
use crate::vendor::{Made, Vendor, Wish};
use crate::{AGENT_UNIT, Host, HostLab, truth};

/// A release and the instant of its cut.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    /// What is rolled out.
    pub wish: Wish,
    /// When it is cut.
    pub when: When,
    /// What is cut.
    pub cut: Cut,
}

/// The instant of a cut.
#[derive(Debug, Clone, Copy)]
pub enum When {
    /// As soon as the ledger shows that state, and so much later, where it is still that one.
    In(AgentState, Duration),
    /// So long after the rollout began, whatever the host does then.
    After(Duration),
    /// Nothing is cut.
    Never,
}

/// What is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The host's power; it boots again at once.
    Power,
    /// The agent, by SIGKILL; its service manager starts it again.
    Agent,
}

/// How a trial went.
#[derive(Debug, Clone)]
pub struct Told {
    /// The state in which the host was cut; none where that instant was missed.
    pub cut_in: Option<AgentState>,
    /// Whether the controller was told that it succeeded.
    pub succeeded: bool,
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wish, when, cut } = self;
        let kind = if wish.good { "good" } else { "bad" };
        write!(f, "a {kind} release")?;
        if wish.reboot {
            write!(f, " with a reboot")?;
        }
        if wish.irreversible {
            write!(f, " without a way back")?;
        }
        write!(f, ", {cut:?} cut ")?;
        match when {
            When::In(state, later) => write!(f, "in {state} and {later:?} later"),
            When::After(time) => write!(f, "after {time:?}"),
            When::Never => write!(f, "never"),
        }
    }
}

/// The releases that bring a host through a state. A state that is new here does not compile until it has one.
pub fn ways_through(state: AgentState) -> Vec<Wish> {
    let (good, bad) = (Wish::GOOD, Wish::BAD);
    let with_reboot = |wish: Wish| Wish {
        reboot: true,
        ..wish
    };
    match state {
        AgentState::Idle
        | AgentState::Fetching
        | AgentState::Staged
        | AgentState::AwaitingPermit
        | AgentState::Committed => vec![good],
        AgentState::Activating => vec![good, bad],
        AgentState::Rebooting => vec![with_reboot(good), with_reboot(bad)],
        AgentState::Verifying => vec![good, bad, with_reboot(good)],
        AgentState::RollingBack | AgentState::RolledBack => vec![bad, with_reboot(bad)],
        AgentState::Broken => vec![Wish {
            irreversible: true,
            ..bad
        }],
    }
}

/// A trial for each state of the machine and each way through it, so many times each: the first exactly where the state is
/// entered, the others somewhat later.
pub fn at_every_state(cut: Cut, times: u32) -> Vec<Trial> {
    let mut trials = Vec::new();
    for state in AgentState::ALL {
        for wish in ways_through(state) {
            for time in 0..times {
                let later = match time {
                    0 => Duration::ZERO,
                    _ => Duration::from_millis(comber_e2e::chance(30)),
                };
                let when = When::In(state, later);
                trials.push(Trial { wish, when, cut });
            }
        }
    }
    trials
}

/// So many trials at instants by chance from the rollout's begin to about its end, all kinds of releases in turn.
pub fn at_random_instants(cut: Cut, times: u32) -> Vec<Trial> {
    let with_reboot = |wish: Wish| Wish {
        reboot: true,
        ..wish
    };
    let (good, bad) = (Wish::GOOD, Wish::BAD);
    let kinds = [good, bad, with_reboot(good), with_reboot(bad)];
    let kinds = kinds.map(|wish| (wish, Duration::from_millis(lasts(&wish))));
    at_random_instants_of(&kinds, cut, times)
}

/// The same with these kinds of releases in turn, each with about how long it takes: instants are spread over that.
pub fn at_random_instants_of(kinds: &[(Wish, Duration)], cut: Cut, times: u32) -> Vec<Trial> {
    let kinds = kinds.iter().cycle().zip(0..times);
    let trial = |((wish, lasts), _): (&(Wish, Duration), u32)| {
        let most = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
        Trial {
            wish: *wish,
            when: When::After(Duration::from_millis(comber_e2e::chance(most))),
            cut,
        }
    };
    kinds.map(trial).collect()
}

fn by_chance(wish: &Wish) -> When {
    When::After(Duration::from_millis(comber_e2e::chance(lasts(wish))))
}

/// About how long an attempt takes, in milliseconds, as measured on two cores. Where it takes longer or shorter, more
/// instants lie early in the attempt or behind its end; none is wrong.
fn lasts(wish: &Wish) -> u64 {
    let reboots = match (wish.reboot, wish.good) {
        (false, _) => 0,
        (true, true) => 1,
        (true, false) => 2,
    };
    let checks = if wish.good { 0 } else { 2000 };
    800 + checks + reboots * 2000
}

/// Rolls a release out to one host without any cut, and insists on its truth.
pub(crate) fn uncut(lab: &HostLab, host: &Host, vendor: &dyn Vendor, wish: &Wish) -> Result<()> {
    let trial = Trial {
        wish: *wish,
        when: When::Never,
        cut: Cut::Agent,
    };
    trial.run(lab, host, vendor).map(drop)
}

impl Trial {
    /// Runs it on a host that is at rest, until the host is at rest again and its truth is proved.
    pub fn run(&self, lab: &HostLab, host: &Host, vendor: &dyn Vendor) -> Result<Told> {
        let before = vendor.installed(host)?;
        let made = vendor.make(lab, &self.wish)?;
        let rollout = lab.lab().roll_out(&spec(&made, host))?;
        let cut_in = self.cut(host, &made)?;
        let status = end(lab, &rollout).with_context(|| format!("cut in {cut_in:?}"))?;
        let succeeded = status["outcomes"]["succeeded"] == 1;
        at_rest(host, &made)?;
        let case = truth::Case {
            trial: self,
            made: &made,
            before: before.as_deref(),
            succeeded,
        };
        truth::prove(&case, lab, host, vendor)
            .with_context(|| format!("{status:#}\ncut in {cut_in:?}"))?;
        lab.comber().ok(&["rollout", "abort", &rollout, "--yes"])?;
        Ok(Told { cut_in, succeeded })
    }

    /// The instant of the next try where this one was missed: the state lasted too short, or there was no agent to kill.
    pub(crate) fn sooner(&self) -> When {
        match self.when {
            When::In(state, later) => When::In(state, later / 2),
            When::After(_) => by_chance(&self.wish),
            When::Never => When::Never,
        }
    }

    /// Cuts at the instant; says in which state. None where the host had moved on: it was not cut then.
    fn cut(&self, host: &Host, made: &Made) -> Result<Option<AgentState>> {
        let is_there = |ledger: &Ledger| match self.when {
            When::In(state, _) => is_in(ledger, state, made),
            When::After(_) | When::Never => true,
        };
        match self.when {
            When::In(_, later) => {
                if !seen(host, made, is_there) {
                    return Ok(None);
                }
                wait::past(later);
            }
            When::After(time) => {
                wait::past(time);
            }
            When::Never => return Ok(None),
        }
        // A host between two boots cannot be frozen; there is nothing to cut then.
        if host.freeze().is_err() {
            return Ok(None);
        }
        let ledger = host.ledger().filter(is_there);
        let Some(ledger) = ledger else {
            host.thaw()?;
            return Ok(None);
        };
        match self.cut {
            Cut::Power => {
                host.powercut()?;
                host.start()?;
            }
            Cut::Agent => {
                // It may be about to start, where the host just boots.
                let killed = host.kill_agent();
                host.thaw()?;
                if killed.is_err() {
                    return Ok(None);
                }
            }
        }
        Ok(Some(ledger.state.kind()))
    }
}

/// One host, everything allowed, patient with a host that is away; tried again where it was refused as broken.
fn spec(made: &Made, host: &Host) -> String {
    format!(
        "release = \"{}\"\nselector = 'host == \"{}\"'\n[pace]\nmax_in_flight = \"100%\"\n[budget]\nfailures = {{ max = \"100%\" }}\nsilent = {{ after = \"1h\" }}\n[retry]\nbackoff = \"1s\"\nclasses = {{ rejected = 2 }}\n[[wave]]\nhosts = \"rest\"\n",
        made.release,
        host.name(),
    )
}

/// Watches the ledger until it shows the state; false where the attempt ended without it.
fn seen(host: &Host, made: &Made, is_there: impl Fn(&Ledger) -> bool) -> bool {
    let watched = wait::closely(LONG, || {
        let ledger = host.ledger()?;
        match is_there(&ledger) {
            true => Some(true),
            false if has_ended(&ledger, made) => Some(false),
            false => None,
        }
    });
    watched == Some(true)
}

/// Whether the ledger shows that state of the attempt at that release.
fn is_in(ledger: &Ledger, state: AgentState, made: &Made) -> bool {
    let of_it = match ledger.state.work() {
        Some(work) => work.assignment.release.to_string() == made.release,
        None => state == AgentState::Idle || ended_last(ledger, made),
    };
    ledger.state.kind() == state && of_it
}

fn ended_last(ledger: &Ledger, made: &Made) -> bool {
    let last = ledger.last.as_ref();
    last.is_some_and(|last| last.release.to_string() == made.release)
}

/// Whether the attempt is over and told.
fn has_ended(ledger: &Ledger, made: &Made) -> bool {
    let rests = matches!(ledger.state, State::Idle | State::Broken { .. });
    rests && ended_last(ledger, made) && ledger.reports.is_empty()
}

fn end(lab: &HostLab, rollout: &str) -> Result<Value> {
    lab.lab().wait_for(rollout, LONG, |status| {
        let outcomes = &status["outcomes"];
        outcomes["succeeded"] == 1 || outcomes["failed"] == 1
    })
}

/// Waits until nothing of the attempt is left to do or to tell, and the host has booted.
fn at_rest(host: &Host, made: &Made) -> Result<()> {
    let rests = wait::until(LONG, || {
        let ledger = host.ledger()?;
        (has_ended(&ledger, made) && host.agent().is_some()).then_some(())
    });
    let ledger = host.ledger();
    rests.with_context(|| format!("{} comes to no rest: {ledger:#?}", host.name()))?;
    host.wait()?;
    let state = host.run(&["systemctl", "is-active", AGENT_UNIT])?.stdout;
    ensure!(state.trim() == "active", "the agent is {state}");
    Ok(())
}
