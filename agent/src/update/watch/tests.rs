//! The watcher over a service that is only played: every way an update can go, and a power cut after every step of each.
//!
//! The played service takes the lock of the state directory like an agent, so "never two agents" is the lock's own rule:
//! a start while it is held fails the test.

use std::cell::RefCell;
use std::fs;
use std::rc::Rc;

use comber_runtime::clock::ManualClock;
use jiff::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::lock::AGENT_LOCK;
use crate::update::{Seen, ServiceError, ServiceKind};

const OLD: &str = "1.0-0123456789ab";
const NEW: &str = "2.0-0123456789ab";

/// What the new agent does whenever it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Play {
    /// Proves itself at the third look.
    Good,
    Ends,
    Hangs,
    /// Runs, holds its lock, never says that it is kept.
    NoLink,
    /// Decides itself that it goes back.
    GoesBack,
}

/// A host whose agent is played. What is in it survives a power cut of the watcher, but not the running agent.
struct Host {
    dir: TempDir,
    files: UpdateFiles,
    clock: Clock,
    hand: ManualClock,
    play: Play,
    running: Rc<RefCell<Running>>,
}

#[derive(Debug, Default)]
struct Running {
    lock: Option<Lock>,
    /// What the link led to when it was started.
    slot: Option<String>,
    looks: u32,
    ended: u32,
    starts: Vec<String>,
}

struct Played {
    state_dir: std::path::PathBuf,
    play: Play,
    running: Rc<RefCell<Running>>,
    hand: ManualClock,
}

fn slot_of(state_dir: &Path) -> String {
    match shelf(state_dir).link().unwrap() {
        Link::Slot(slot) => slot,
        other => format!("{other:?}"),
    }
}

impl Played {
    /// What a new agent does between two looks of the watcher.
    fn live(&self) {
        let files = UpdateFiles::new(&self.state_dir);
        let mut running = self.running.borrow_mut();
        running.looks += 1;
        match self.play {
            Play::Good if running.looks >= 3 => drop(files.decide(&Decision::Kept).unwrap()),
            Play::GoesBack if running.looks >= 3 => {
                let why = "its check failed".to_owned();
                drop(files.decide(&Decision::Restore { why }).unwrap());
            }
            Play::Ends if running.looks >= 2 => {
                running.lock = None;
                running.slot = None;
                running.ended += 1;
            }
            Play::NoLink => files.tell(Seen::default()),
            Play::Good | Play::GoesBack | Play::Ends | Play::Hangs => {}
        }
    }
}

impl Service for Played {
    fn stop(&mut self) -> Result<(), ServiceError> {
        let mut running = self.running.borrow_mut();
        (running.lock, running.slot) = (None, None);
        Ok(())
    }

    fn start(&mut self) -> Result<(), ServiceError> {
        let mut running = self.running.borrow_mut();
        if running.slot.is_some() {
            return Ok(());
        }
        let slot = slot_of(&self.state_dir);
        let hangs = slot == NEW && self.play == Play::Hangs;
        let lock = self.state_dir.join(AGENT_LOCK);
        running.lock = (!hangs).then(|| Lock::try_take(&lock).expect("never two agents"));
        running.starts.push(slot.clone());
        (running.slot, running.looks) = (Some(slot), 0);
        Ok(())
    }

    fn look(&mut self) -> Result<Look, ServiceError> {
        let is_new = self.running.borrow().slot.as_deref() == Some(NEW);
        if is_new {
            self.hand.advance(Duration::from_secs(20));
            self.live();
        }
        let running = self.running.borrow();
        Ok(Look {
            is_up: running.slot.is_some(),
            holds_lock: running.lock.is_some(),
            ended: running.ended,
            last: "exit status 3".to_owned(),
            host_stops: false,
        })
    }
}

impl Host {
    /// The old agent runs and has written the order.
    fn new(play: Play) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let start: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        let (clock, hand) = Clock::manual(start);
        fs::write(dir.path().join("ledger.json"), "of the old agent").unwrap();
        fs::write(dir.path().join("boot_id"), "first").unwrap();
        let shelf = shelf(dir.path());
        shelf.make().unwrap();
        for slot in [OLD, NEW] {
            fs::create_dir(shelf.place(slot)).unwrap();
        }
        shelf.switch(OLD).unwrap();
        let files = UpdateFiles::new(dir.path());
        let host = Self {
            running: Rc::default(),
            files,
            clock,
            hand,
            play,
            dir,
        };
        host.files.begin(&host.order()).unwrap();
        host.service().start().unwrap();
        host
    }

    fn order(&self) -> Order {
        let side = |slot: &str| Side {
            slot: Some(slot.to_owned()),
            version: slot[..3].to_owned(),
        };
        Order {
            form: FORM,
            release: "comber-agent@2.0".parse().unwrap(),
            from: side(OLD),
            to: side(NEW),
            proof: Some(Proof {
                healthy_for: Duration::from_secs(30),
                deadline: Duration::from_mins(2),
            }),
            service: ServiceKind::Systemd {
                unit: "comber-agent.service".to_owned(),
            },
            boot_id_file: self.dir.path().join("boot_id"),
            ordered_at: self.clock.wall(),
        }
    }

    fn service(&self) -> Played {
        Played {
            state_dir: self.dir.path().to_owned(),
            play: self.play,
            running: Rc::clone(&self.running),
            hand: self.hand.clone(),
        }
    }

    /// Runs a watcher for so many steps; `true` where it came to the end.
    fn watch(&self, steps: usize) -> bool {
        let Some(order) = self.files.order().unwrap() else {
            return true;
        };
        let progress = self.files.progress().unwrap();
        let (files, clock) = (self.files.clone(), self.clock.clone());
        let notifier = Notifier::default();
        let service = self.service();
        let watcher = Watcher::new(files, order, progress, service, clock, notifier);
        let mut watcher = watcher.unwrap();
        watcher.pause = Duration::ZERO;
        (0..steps).any(|_| watcher.step().unwrap() == Next::Done)
    }

    /// The watcher is gone, and where the host went down, everything that ran.
    fn cut(&self, next_boot: Option<u32>) {
        let Some(boot) = next_boot else { return };
        self.service().stop().unwrap();
        fs::write(self.dir.path().join("boot_id"), format!("boot {boot}")).unwrap();
        self.running.borrow_mut().ended = 0;
    }

    /// The right agent runs, and the files say the same.
    #[track_caller]
    fn assert_ended(&self, told: &str) {
        let expected = if self.play == Play::Good { NEW } else { OLD };
        assert_eq!(slot_of(self.dir.path()), expected, "{told}");
        let running = self.running.borrow().slot.clone();
        assert_eq!(running.as_deref(), Some(expected), "{told}");
        let ledger = fs::read_to_string(self.files.dir().join("ledger.json"));
        match self.play {
            Play::Good => assert_eq!(self.files.order().unwrap(), None, "{told}"),
            Play::Ends | Play::Hangs | Play::NoLink | Play::GoesBack => {
                let phase = self.files.progress().unwrap().phase;
                let Phase::Restored { why } = phase else {
                    panic!("{told}: {phase:?}");
                };
                let decided = Some(Decision::Restore { why });
                assert_eq!(self.files.decision().unwrap(), decided, "{told}");
                assert_eq!(ledger.unwrap(), "of the old agent", "{told}");
            }
        }
    }
}

const PLAYS: [Play; 5] = [
    Play::Good,
    Play::Ends,
    Play::Hangs,
    Play::NoLink,
    Play::GoesBack,
];
/// More than any way has.
const ALL: usize = 200;

#[test]
fn every_way_ends_with_the_right_agent_and_the_reason() {
    let reasons = [
        None,
        Some("it ended 3 times by itself, at last with exit status 3"),
        Some("it hung and gave no sign of life within 2m"),
        Some("it could not connect to the controller within 2m"),
        Some("its check failed"),
    ];
    for (play, reason) in PLAYS.into_iter().zip(reasons) {
        let host = Host::new(play);
        assert!(host.watch(ALL), "{play:?} has no end");
        host.assert_ended(&format!("{play:?}"));
        let told = match host.files.decision().unwrap() {
            Some(Decision::Restore { why }) => Some(why),
            Some(Decision::Kept) | None => None,
        };
        assert_eq!(told.as_deref(), reason);
    }
}

/// The steps are not listed: the watcher is cut off after its first, its second, ... until it came to the end.
#[test]
fn a_watcher_that_is_cut_off_after_any_step_goes_on() {
    for play in PLAYS {
        for with_host in [false, true] {
            let mut steps = 0;
            loop {
                let host = Host::new(play);
                let ended = host.watch(steps);
                host.cut((with_host && !ended).then_some(1));
                let told = format!("{play:?} after {steps} steps, whole host: {with_host}");
                assert!(host.watch(ALL), "{told} has no end");
                // A boot starts the agent, too, behind the watcher.
                host.service().start().unwrap();
                host.assert_ended(&told);
                if ended {
                    break;
                }
                steps += 1;
            }
            assert!(steps >= 4, "{play:?} has only {steps} steps");
        }
    }
}

#[test]
fn a_host_that_goes_down_again_and_again_goes_back() {
    let host = Host::new(Play::NoLink);
    for boot in 1..10 {
        if host.watch(4) {
            break;
        }
        host.cut(Some(boot));
    }
    assert!(host.watch(ALL));
    host.assert_ended("down again and again");
    let Some(Decision::Restore { why }) = host.files.decision().unwrap() else {
        panic!("kept");
    };
    assert_eq!(why, "the host went down 3 times under it");
}

#[test]
fn an_agent_that_took_it_back_before_the_switch_is_not_touched() {
    let host = Host::new(Play::Good);
    let why = "its permit was over".to_owned();
    host.files.decide(&Decision::Restore { why }).unwrap();
    assert!(host.watch(ALL));
    assert_eq!(slot_of(host.dir.path()), OLD);
    let running = host.running.borrow();
    assert_eq!(running.starts, [OLD], "the old one ran on");
    let phase = host.files.progress().unwrap().phase;
    assert!(matches!(phase, Phase::Restored { .. }), "{phase:?}");
}

#[test]
fn a_release_that_is_gone_never_ends_the_old_agent_for_good() {
    let host = Host::new(Play::Good);
    fs::remove_dir(shelf(host.dir.path()).place(NEW)).unwrap();
    assert!(host.watch(ALL));
    assert_eq!(slot_of(host.dir.path()), OLD);
    assert_eq!(host.running.borrow().slot.as_deref(), Some(OLD));
    let Some(Decision::Restore { why }) = host.files.decision().unwrap() else {
        panic!("kept");
    };
    assert!(why.contains("it was never active"), "{why}");
}

#[test]
fn a_way_back_without_a_proof_ends_once_the_agent_was_started() {
    let host = Host::new(Play::NoLink);
    let mut order = host.order();
    order.proof = None;
    order.to.slot = None;
    host.files.begin(&order).unwrap();
    assert!(host.watch(ALL));
    assert_eq!(shelf(host.dir.path()).link().unwrap(), Link::Absent);
    assert_eq!(host.files.order().unwrap(), None);
    assert!(host.running.borrow().slot.is_some());
}
