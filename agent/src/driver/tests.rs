//! The driver with scripted hands, a real ledger file and a clock that stands still.

use std::sync::atomic::Ordering;

use comber_machine::State;
use comber_model::release::RebootPolicy;
use comber_model::{
    Action, AgentState, Artifact, Assignment, Digest, FailureClass, Generation, Grant,
    ReportResult, RolloutId,
};
use comber_runtime::shutdown::Cause;
use jiff::Timestamp;
use tokio::task::JoinHandle;

use super::*;
use crate::ledger::{LedgerFile, Source};

mod script;

use script::{Reply, Script};

/// One agent on one host.
struct Agent {
    script: Script,
    clock: Clock,
    shutdown: Shutdown,
    handle: Handle,
    calls: mpsc::UnboundedReceiver<String>,
    running: JoinHandle<Result<(), DriverError>>,
    dir: tempfile::TempDir,
}

impl Agent {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, hand) = Clock::manual("2026-11-24T08:00:00Z".parse().unwrap());
        let (sender, calls) = mpsc::unbounded_channel();
        let script = Script {
            replies: Arc::default(),
            calls: sender,
            go: Arc::default(),
            is_leaving: Arc::default(),
            file: LedgerFile::new(dir.path()),
            broken_saves: Arc::default(),
            slow: Arc::default(),
            hand,
            recipe: Arc::default(),
        };
        Self::start(dir, script, clock, calls).await
    }

    async fn start(
        dir: tempfile::TempDir,
        script: Script,
        clock: Clock,
        calls: mpsc::UnboundedReceiver<String>,
    ) -> Self {
        let shutdown = Shutdown::new();
        let ledger = script.file.load(clock.wall()).unwrap().ledger;
        let parts = Parts {
            effects: script.clone(),
            store: script.clone(),
            clock: clock.clone(),
            boot_id: BootId("boot-1".to_owned()),
            policy: Policy::default(),
            shutdown: shutdown.clone(),
        };
        let (driver, handle) = Driver::start(parts, ledger).await.unwrap();
        let running = comber_runtime::task::spawn("driver", &shutdown, driver.run());
        Self {
            script,
            clock,
            shutdown,
            handle,
            calls,
            running,
            dir,
        }
    }

    /// Ends the process as a kill does, and starts it anew from the ledger.
    async fn killed(self) -> Self {
        self.running.abort();
        let _ = self.running.await;
        let mut calls = self.calls;
        while calls.try_recv().is_ok() {}
        Self::start(self.dir, self.script, self.clock, calls).await
    }

    fn will(&self, call: &'static str, reply: Reply) {
        let mut replies = self.script.replies.lock().unwrap();
        replies.entry(call).or_default().push_back(reply);
    }

    async fn send(&self, heard: FromLink) {
        self.handle.from_link.send(heard).await.unwrap();
    }

    async fn desired(&self, generation: u64, assigned: bool, grant: Option<Grant>) {
        let desired = Desired {
            generation: Generation(generation),
            assignment: assigned.then(assignment),
            grant,
            acknowledged: 0,
        };
        let epoch = Epoch([7; 16]);
        self.send(FromLink::Desired { epoch, desired }).await;
    }

    /// Waits until what is shown is so.
    async fn shows(&mut self, so: impl FnMut(&HostStatus) -> bool) -> HostStatus {
        let shown = self.handle.actual.wait_for(so);
        let status = time::timeout(Duration::from_secs(5), shown).await;
        let Ok(status) = status.map(|status| status.unwrap().clone()) else {
            panic!("never, but {:?}", self.handle.actual.borrow());
        };
        status
    }

    async fn reaches(&mut self, state: AgentState) -> HostStatus {
        self.shows(|actual| actual.state == state).await
    }

    /// Grants the request that is shown.
    async fn granted(&mut self, ttl: Duration) {
        let status = self.reaches(AgentState::AwaitingPermit).await;
        let nonce = status.attempt.unwrap().nonce.expect("no request is shown");
        let granted_at = Timestamp::UNIX_EPOCH;
        let grant = Grant {
            nonce,
            granted_at,
            ttl,
        };
        self.desired(1, true, Some(grant)).await;
    }

    /// The next call of an effect.
    async fn call(&mut self) -> String {
        let call = time::timeout(Duration::from_secs(90), self.calls.recv()).await;
        call.expect("no effect was called").unwrap()
    }

    async fn calls(&mut self, expected: &[&str]) {
        for expected in expected {
            assert_eq!(self.call().await, *expected);
        }
    }

    fn saved(&self) -> Ledger {
        let loaded = self.script.file.load(Timestamp::UNIX_EPOCH).unwrap();
        assert_ne!(loaded.source, Source::New);
        loaded.ledger
    }
}

fn assignment() -> Assignment {
    Assignment {
        rollout: RolloutId(1),
        release: "webapp@1".parse().unwrap(),
        action: Action::Install {
            artifact: Artifact {
                digest: Digest([1; 32]),
                length: 10,
                carried_length: 5,
            },
        },
        rolls_back: false,
        attempt: 1,
        retry_bad: false,
        disconnected: false,
    }
}

const LONG: Duration = Duration::from_mins(10);

#[tokio::test(start_paused = true)]
async fn each_effect_finds_its_state_on_disk() {
    let mut agent = Agent::new().await;
    agent.send(FromLink::Connected).await;
    agent.desired(1, true, None).await;
    agent
        .calls(&["fetch in fetching", "preflight in staged"])
        .await;
    agent.granted(LONG).await;
    agent
        .calls(&[
            "activate in activating",
            "verify in verifying",
            "cleanup but 1",
        ])
        .await;
    let status = agent.reaches(AgentState::Committed).await;
    assert_eq!(status.reports[0].result, ReportResult::Committed);
    assert_eq!(actual(&agent.saved()), status);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_drops_the_effect_in_hand() {
    let mut agent = Agent::new().await;
    agent.will("fetch", Reply::Hang);
    agent.desired(1, true, None).await;
    agent.calls(&["fetch in fetching"]).await;
    agent.desired(2, false, None).await;
    agent.calls(&["fetch dropped"]).await;
    let status = agent.reaches(AgentState::Idle).await;
    assert_eq!(status.generation, Generation(2));
}

#[tokio::test(start_paused = true)]
async fn a_switch_that_hangs_is_dropped_at_its_deadline_and_undone() {
    let mut agent = Agent::new().await;
    agent.will("activate", Reply::Hang);
    agent.send(FromLink::Connected).await;
    agent.desired(1, true, None).await;
    agent.granted(LONG).await;
    agent
        .calls(&[
            "fetch in fetching",
            "preflight in staged",
            "activate in activating",
        ])
        .await;
    let almost = Duration::from_secs(15 * 60 + 29);
    agent.script.hand.advance(almost);
    assert_eq!(agent.handle.actual.borrow().state, AgentState::Activating);
    agent.script.hand.advance(Duration::from_secs(1));
    agent
        .calls(&[
            "activate dropped",
            "roll_back in rolling_back",
            "cleanup but 0",
        ])
        .await;
    let status = agent.reaches(AgentState::RolledBack).await;
    let failure = status.reports[0].result.failure().unwrap();
    assert_eq!(failure.class, FailureClass::Install);
}

#[tokio::test(start_paused = true)]
async fn a_slow_disk_does_not_stretch_a_permit() {
    let mut agent = Agent::new().await;
    agent.send(FromLink::Connected).await;
    agent.desired(1, true, None).await;
    agent
        .calls(&["fetch in fetching", "preflight in staged"])
        .await;
    let status = agent.reaches(AgentState::AwaitingPermit).await;
    let first = status.attempt.unwrap().nonce;
    *agent.script.slow.lock().unwrap() = Duration::from_mins(1);
    agent.granted(Duration::from_secs(59)).await;
    let asks_again = |actual: &HostStatus| actual.attempt.as_ref().unwrap().nonce != first;
    let status = agent.shows(asks_again).await;
    assert_eq!(status.state, AgentState::AwaitingPermit);
    assert!(agent.calls.try_recv().is_err(), "it began to activate");
    *agent.script.slow.lock().unwrap() = Duration::ZERO;
    agent.granted(LONG).await;
    agent.calls(&["activate in activating"]).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_done_or_shown_until_it_is_saved() {
    let mut agent = Agent::new().await;
    agent.script.broken_saves.store(5, Ordering::SeqCst);
    agent.desired(1, true, None).await;
    agent.calls(&["fetch in fetching"]).await;
    assert_eq!(agent.script.broken_saves.load(Ordering::SeqCst), 0);
    agent.reaches(AgentState::Fetching).await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_cannot_save_can_be_told_to_end() {
    let mut agent = Agent::new().await;
    agent.script.broken_saves.store(u32::MAX, Ordering::SeqCst);
    agent.desired(1, true, None).await;
    time::sleep(Duration::from_mins(5)).await;
    assert!(agent.calls.try_recv().is_err(), "it fetched");
    assert_eq!(agent.handle.actual.borrow().state, AgentState::Idle);
    agent.shutdown.trigger(Cause::Signal);
    let ended = agent.running.await.unwrap();
    assert!(matches!(ended, Err(DriverError::NotSaved(_))), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_killed_agent_finishes_alone_what_it_began() {
    let mut agent = Agent::new().await;
    agent.will("activate", Reply::Hang);
    agent.send(FromLink::Connected).await;
    agent.desired(1, true, None).await;
    agent.granted(LONG).await;
    agent.reaches(AgentState::Activating).await;
    let mut agent = agent.killed().await;
    agent
        .calls(&[
            "activate in activating",
            "verify in verifying",
            "cleanup but 1",
        ])
        .await;
    agent.reaches(AgentState::Committed).await;
}

#[tokio::test(start_paused = true)]
async fn no_request_stands_while_the_controller_is_away() {
    let nonce = |actual: &HostStatus| actual.attempt.as_ref().unwrap().nonce;
    let mut agent = Agent::new().await;
    agent.send(FromLink::Connected).await;
    agent.desired(1, true, None).await;
    let first = nonce(&agent.reaches(AgentState::AwaitingPermit).await);
    agent.send(FromLink::Disconnected).await;
    agent.shows(|actual| nonce(actual).is_none()).await;
    agent.send(FromLink::Connected).await;
    let status = agent.shows(|actual| nonce(actual).is_some()).await;
    assert_ne!(nonce(&status), first);
}

#[tokio::test(start_paused = true)]
async fn a_switch_in_hand_ends_before_the_agent_does() {
    let mut agent = Agent::new().await;
    agent.will("activate", Reply::Wait);
    agent.send(FromLink::Connected).await;
    agent.desired(1, true, None).await;
    agent.granted(LONG).await;
    agent
        .calls(&[
            "fetch in fetching",
            "preflight in staged",
            "activate in activating",
        ])
        .await;
    agent.shutdown.trigger(Cause::Signal);
    tokio::task::yield_now().await;
    agent.script.go.notify_one();
    agent.running.await.unwrap().unwrap();
    let loaded = agent.script.file.load(Timestamp::UNIX_EPOCH).unwrap();
    assert!(matches!(loaded.ledger.state, State::Verifying { .. }));
    assert!(agent.calls.try_recv().is_err(), "it began something new");
}

#[tokio::test(start_paused = true)]
async fn a_switch_that_hangs_does_not_keep_the_agent_from_ending() {
    let mut agent = Agent::new().await;
    agent.will("activate", Reply::Hang);
    agent.send(FromLink::Connected).await;
    agent.desired(1, true, None).await;
    agent.granted(LONG).await;
    agent.reaches(AgentState::Activating).await;
    agent.shutdown.trigger(Cause::Signal);
    agent.running.await.unwrap().unwrap();
    let loaded = agent.script.file.load(Timestamp::UNIX_EPOCH).unwrap();
    assert!(matches!(loaded.ledger.state, State::Activating { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_failure_on_the_way_back_is_broken() {
    let mut agent = Agent::new().await;
    agent.will("verify", Reply::Bad);
    agent.will("roll_back", Reply::Bad);
    agent.send(FromLink::Connected).await;
    agent.desired(1, true, None).await;
    agent.granted(LONG).await;
    let status = agent.reaches(AgentState::Broken).await;
    let failure = status.reports[0].result.failure().unwrap();
    assert_eq!(failure.class, FailureClass::Rollback);
}

#[tokio::test(start_paused = true)]
async fn a_refused_reboot_is_asked_for_again() {
    let mut agent = Agent::new().await;
    agent.script.recipe.lock().unwrap().reboot = RebootPolicy::Required;
    agent.will("reboot", Reply::Bad);
    agent.send(FromLink::Connected).await;
    agent.desired(1, true, None).await;
    agent.granted(LONG).await;
    agent.reaches(AgentState::Rebooting).await;
    agent
        .calls(&[
            "fetch in fetching",
            "preflight in staged",
            "activate in activating",
        ])
        .await;
    agent.calls(&["reboot in rebooting"]).await;
    agent.script.hand.advance(Duration::from_secs(61));
    agent.calls(&["reboot in rebooting"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_never_stops_talking_keeps_nothing_from_ending() {
    let mut agent = Agent::new().await;
    agent.send(FromLink::Connected).await;
    agent.desired(1, true, None).await;
    agent.granted(LONG).await;
    let from_link = agent.handle.from_link.clone();
    let talking = comber_runtime::task::spawn("talker", &agent.shutdown, async move {
        let desired = Desired {
            generation: Generation(1),
            assignment: Some(assignment()),
            ..Desired::default()
        };
        let epoch = Epoch([7; 16]);
        let heard = FromLink::Desired { epoch, desired };
        while from_link.send(heard.clone()).await.is_ok() {}
    });
    agent.reaches(AgentState::Committed).await;
    talking.abort();
}

#[tokio::test(start_paused = true)]
async fn an_idle_agent_sets_no_timer() {
    let mut agent = Agent::new().await;
    let before = time::Instant::now();
    // With paused time the runtime jumps to the next timer as soon as nothing else is to do: only this one is there.
    time::sleep(Duration::from_hours(24)).await;
    assert_eq!(before.elapsed(), Duration::from_hours(24));
    assert!(agent.calls.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_ended_while_the_host_was_noted_is_asked_for_again() {
    let mut agent = Agent::new().await;
    agent.will("note", Reply::Bad);
    agent.send(FromLink::Connected).await;
    agent.desired(1, true, None).await;
    let first = agent.reaches(AgentState::AwaitingPermit).await;
    agent.granted(LONG).await;
    let asked = |status: &HostStatus| status.attempt.as_ref().and_then(|attempt| attempt.nonce);
    let before = asked(&first);
    agent
        .shows(|status| asked(status).is_some() && asked(status) != before)
        .await;
    agent.granted(LONG).await;
    agent
        .calls(&[
            "fetch in fetching",
            "preflight in staged",
            "activate in activating",
        ])
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_wish_to_leave_waits_for_no_fetch_and_is_refused_between_two_releases() {
    async fn wish(agent: &Agent, force: bool) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        let leave = Leave { force, answer };
        agent.handle.leave.send(leave).await.unwrap();
        answered.await.unwrap()
    }
    let mut agent = Agent::new().await;
    agent.will("fetch", Reply::Hang);
    agent.desired(1, true, None).await;
    agent.calls(&["fetch in fetching"]).await;
    wish(&agent, false).await.unwrap();
    agent.calls(&["fetch dropped"]).await;
    agent.running.await.unwrap().unwrap();
    let left = Some(Cause::Requested(LEFT.to_owned()));
    assert_eq!(agent.shutdown.cause(), left);

    let mut agent = Agent::new().await;
    agent.will("verify", Reply::Hang);
    agent.send(FromLink::Connected).await;
    agent.desired(1, true, None).await;
    agent.granted(LONG).await;
    agent.reaches(AgentState::Verifying).await;
    let refused = wish(&agent, false).await.unwrap_err();
    assert!(refused.starts_with("webapp@1 is verifying"), "{refused}");
    assert!(!agent.shutdown.is_set());
    wish(&agent, true).await.unwrap();
    agent.running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_switch_that_comes_to_wait_for_the_end_of_the_agent_is_not_waited_for() {
    let mut agent = Agent::new().await;
    agent.will("activate", Reply::Leave);
    agent.send(FromLink::Connected).await;
    agent.desired(1, true, None).await;
    agent.granted(LONG).await;
    agent.reaches(AgentState::Activating).await;
    let begun = time::Instant::now();
    agent.shutdown.trigger(Cause::Signal);
    time::sleep(Duration::from_secs(1)).await;
    assert!(!agent.running.is_finished(), "it may still switch");
    agent.script.go.notify_one();
    agent.running.await.unwrap().unwrap();
    assert!(begun.elapsed() < DRAIN, "each waited for the other");
}
