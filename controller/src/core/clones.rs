//! Clones: one key on two machines, told by two processes that take the one stream from each other.
//!
//! ```text
//!   first process ──────╮        ╭── returns ──╮
//!   second process      ╰── new ─╯             ╰── returns: both live, so the host is barred
//! ```
//!
//! A process of an agent names itself by a number made at random when it starts, and counts its connections. A reboot, a
//! restart or a restored disk brings a new process, and the one before it never comes again. A process that connects
//! again counts on. What was replaced while it was connected and comes back lived meanwhile; the second return within
//! [`WINDOW`] is one more than a machine whose memory was restored brings about.
//! Pure but for [`Core::arrived`]. Invariant: no number of reconnects, restarts and reboots of one machine is an alarm.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use comber_model::event::EventKind;
use comber_model::{BarReason, Barred, Host, HostId};
use comber_runtime::clock::later;
use jiff::Timestamp;

use super::agents::AttachmentId;
use super::edit::Edit;
use super::{Core, CoreError, revocations};

/// Two returns must be so close: agents come back within minutes, machines are not restored from memory that often.
const WINDOW: Duration = Duration::from_hours(1);
/// Returns within the window that are an alarm.
const RETURNS: usize = 2;
/// Processes that are remembered as replaced; more machines with one key are found among the last ones.
const REPLACED_MAX: usize = 8;

/// How a process of an agent names itself when it connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// Made at random when the process started.
    pub instance: [u8; 16],
    /// Counts its connections, from 1.
    pub connection: u64,
    /// Where it connects from.
    pub address: IpAddr,
    /// The boot it runs in.
    pub boot_id: String,
}

/// The processes that held one host's stream, the last one and those before it.
#[derive(Debug)]
pub(crate) struct Lineage {
    latest: Presence,
    replaced: VecDeque<Presence>,
    returns: VecDeque<Timestamp>,
}

impl Lineage {
    fn new(first: Presence) -> Self {
        Self {
            latest: first,
            replaced: VecDeque::new(),
            returns: VecDeque::new(),
        }
    }

    /// Takes in a process that now holds the stream; `took` where it took it from one that was connected. Gives the other
    /// machine where both surely live.
    fn arrive(&mut self, now: Presence, took: bool, at: Timestamp) -> Option<Presence> {
        let is_latest = self.latest.instance == now.instance;
        let goes_on = is_latest && now.connection > self.latest.connection;
        let is_known = self.replaced.iter().any(|p| p.instance == now.instance);
        let returns = !goes_on && (is_latest || is_known);
        self.replaced.retain(|p| p.instance != now.instance);
        let before = std::mem::replace(&mut self.latest, now);
        if !is_latest {
            self.replaced.push_back(before.clone());
            if self.replaced.len() > REPLACED_MAX {
                self.replaced.pop_front();
            }
        }
        if !(returns && took) {
            return None;
        }
        self.returns.retain(|earlier| later(*earlier, WINDOW) > at);
        self.returns.push_back(at);
        (self.returns.len() >= RETURNS).then_some(before)
    }
}

impl Core {
    /// Notes which process holds a host's stream. Where that shows that two machines have its key, the host is barred and
    /// the stream ends; both machines are refused until one of them is enrolled again. False where the stream has ended.
    pub async fn arrived(
        &self,
        host: &HostId,
        attachment: AttachmentId,
        presence: Presence,
    ) -> Result<bool, CoreError> {
        let host = host.clone();
        self.edit(move |edit| arrived(edit, &host, attachment, presence))
            .await
    }
}

fn arrived(
    edit: &mut Edit<'_>,
    id: &HostId,
    attachment: AttachmentId,
    presence: Presence,
) -> Result<bool, CoreError> {
    let attached = edit.world.attached.get(id);
    let Some(took) = attached.and_then(|attached| attached.took(attachment)) else {
        // It was ended meanwhile, and the stream is about to say so.
        return Ok(false);
    };
    let (now, here) = (edit.now, presence.clone());
    let Some(lineage) = edit.world.presences.get_mut(id) else {
        let lineage = Lineage::new(presence);
        edit.world.presences.insert(id.clone(), lineage);
        return Ok(true);
    };
    let Some(other) = lineage.arrive(presence, took, now) else {
        return Ok(true);
    };
    alarm(edit, id, &other, &here)?;
    Ok(false)
}

fn alarm(
    edit: &mut Edit<'_>,
    id: &HostId,
    other: &Presence,
    here: &Presence,
) -> Result<(), CoreError> {
    let host: Host = edit.world.enrolled(id)?.host.clone();
    let detail = format!(
        "two machines hold its key and take its stream from each other: {} and {}",
        told(other),
        told(here)
    );
    tracing::error!(host = %id, detail, "a host is barred: it was cloned");
    let mut event = edit.event_by(EventKind::HostCloned, "", format!("{id}: {detail}"));
    event.actor = None;
    event.host = Some(id.clone());
    let ops = vec![edit.event(&event)];
    let barred = Barred {
        since: edit.now,
        reason: BarReason::Cloned,
        detail,
    };
    edit.world.presences.remove(id);
    revocations::bar(edit, host, barred, ops);
    Ok(())
}

/// `192.0.2.7 (boot 6e0c…)`: what tells the machines apart for whoever has to find them.
fn told(presence: &Presence) -> String {
    let boot: String = presence.boot_id.chars().take(8).collect();
    format!("{} (boot {boot})", presence.address)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn process(name: u8, connection: u64) -> Presence {
        Presence {
            instance: [name; 16],
            connection,
            address: [192, 0, 2, name].into(),
            boot_id: format!("boot-{name}"),
        }
    }

    /// Feeds arrivals of (process, its connection, whether it took the stream), a second apart.
    fn alarms(arrivals: &[(u8, u64, bool)]) -> Option<usize> {
        let mut lineage: Option<Lineage> = None;
        arrivals.iter().enumerate().find_map(|(index, arrival)| {
            let (name, connection, took) = *arrival;
            let now = process(name, connection);
            let second = i64::try_from(index).unwrap();
            let Some(lineage) = &mut lineage else {
                lineage = Some(Lineage::new(now));
                return None;
            };
            lineage.arrive(now, took, at(second)).map(|_| index)
        })
    }

    #[test]
    fn two_machines_that_take_turns_are_found_at_the_second_return() {
        let turns = [(1, 1, false), (2, 1, true), (1, 2, true), (2, 2, true)];
        assert_eq!(alarms(&turns), Some(3));
    }

    #[test]
    fn a_machine_copied_with_its_memory_is_found_by_its_count() {
        let turns = [
            (1, 5, false),
            (1, 6, true),
            (1, 6, true),
            (1, 7, true),
            (1, 7, true),
        ];
        assert_eq!(alarms(&turns), Some(4));
    }

    #[test]
    fn three_machines_are_found_too() {
        let turns = [
            (1, 1, false),
            (2, 1, true),
            (3, 1, true),
            (1, 2, true),
            (2, 2, true),
        ];
        assert_eq!(alarms(&turns), Some(4));
    }

    #[test]
    fn reconnects_over_a_stream_that_is_half_open_are_none() {
        let turns: Vec<_> = (1..100).map(|count| (1, count, true)).collect();
        assert_eq!(alarms(&turns), None);
    }

    #[test]
    fn reboots_and_restored_disks_are_none_though_the_old_stream_is_half_open() {
        let turns: Vec<_> = (1..100).map(|boot| (boot, 1, true)).collect();
        assert_eq!(alarms(&turns), None);
    }

    #[test]
    fn one_restored_memory_is_none() {
        let turns = [
            (1, 3, false),
            (2, 1, true),
            (1, 3, true),
            (1, 4, true),
            (1, 5, true),
        ];
        assert_eq!(alarms(&turns), None);
        let same = [(1, 3, false), (1, 9, true), (1, 4, true), (1, 5, true)];
        assert_eq!(alarms(&same), None);
    }

    #[test]
    fn returns_that_are_far_apart_are_none() {
        let mut lineage = Lineage::new(process(1, 1));
        let hour = i64::try_from(WINDOW.as_secs()).unwrap();
        assert_eq!(lineage.arrive(process(2, 1), true, at(0)), None);
        assert_eq!(lineage.arrive(process(1, 2), true, at(1)), None);
        assert_eq!(lineage.arrive(process(2, 2), true, at(2 + hour)), None);
        assert_eq!(
            lineage.arrive(process(1, 3), true, at(3 + hour)),
            Some(process(2, 2))
        );
    }

    proptest! {
        /// One machine: each process counts on, and one that was replaced never comes again.
        #[test]
        fn no_history_of_one_machine_is_an_alarm(restarts in prop::collection::vec((any::<bool>(), any::<bool>()), 0..200)) {
            let (mut name, mut connection) = (0_u8, 0);
            let arrivals: Vec<_> = restarts.into_iter().map(|(restart, took)| {
                if restart { name += 1; connection = 0; }
                connection += 1;
                (name, connection, took)
            }).collect();
            prop_assert_eq!(alarms(&arrivals), None);
        }

        /// Two machines that both go on are found, whatever either does between.
        #[test]
        fn two_machines_that_go_on_are_found(skips in prop::collection::vec(1_u64..9, 8..20)) {
            let mut counts = [0, 0];
            let arrivals: Vec<_> = skips.iter().enumerate().map(|(turn, skip)| {
                let one = turn % 2;
                counts[one] += skip;
                (u8::try_from(one).unwrap(), counts[one], turn > 0)
            }).collect();
            prop_assert_eq!(alarms(&arrivals), Some(3));
        }
    }
}
