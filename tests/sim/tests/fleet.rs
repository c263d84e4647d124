//! Whole fleets under random faults. A failed run prints its seed and its last events; `COMBER_SIM_SEEDS` asks for more.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use comber_model::calendar::{Stretch, Zone};
use comber_model::rollout::RolloutState;
use comber_model::{Generation, RolloutId};
use comber_planner::Command;
use comber_sim::{Behaviour, Faults, Fleet};

const HOSTS: usize = 12;
const HOUR: Duration = Duration::from_hours(1);

const HARSH: Faults = Faults {
    cut: 30,
    agent_crash: 30,
    controller_crash: 20,
    power_cut: 3,
};

#[expect(
    clippy::disallowed_methods,
    reason = "how long a test runs is said by its environment"
)]
fn seeds() -> u64 {
    std::env::var("COMBER_SIM_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(150)
}

/// Plays a scene for many seeds; of the first that fails, tells seed and log.
fn for_seeds(scene: impl Fn(&mut Fleet)) {
    for seed in 1..=seeds() {
        let mut fleet = Fleet::new(seed, HOSTS);
        let played = catch_unwind(AssertUnwindSafe(|| scene(&mut fleet)));
        if let Err(panic) = played {
            let log = fleet.log();
            let last = &log[log.len().saturating_sub(60)..];
            eprintln!(
                "seed {seed} failed; what happened before:\n{}",
                last.join("\n")
            );
            resume_unwind(panic);
        }
    }
}

fn spec(version: u8, more: &str) -> String {
    format!(
        "release = \"app@{version}\"\nselector = \"true\"\n{more}\n[[wave]]\nhosts = 2\nsoak = \"10s\"\n[[wave]]\nhosts = \"50%\"\nmax_in_flight = 2\n[[wave]]\nhosts = \"rest\"\n"
    )
}

const PATIENT: &str = "[budget]\nfailures = { max = \"100%\" }\nunreached = { after = \"10m\", max = \"100%\" }\nsilent = { after = \"5m\" }\n[pace]\nmax_in_flight = 3\npermit = \"30s\"\n[retry]\nclasses = { fetch = 2 }\n";

/// Lets the faults end and the fleet come to rest.
fn rest(fleet: &mut Fleet) {
    fleet.faults = Faults::default();
    fleet.run(3 * HOUR);
}

#[test]
fn a_good_release_reaches_every_host_whatever_fails_on_the_way() {
    for_seeds(|fleet| {
        fleet.publish(1, Behaviour::default());
        fleet.run(Duration::from_mins(1));
        fleet.faults = HARSH;
        // Crashes count as failed attempts: the gates must not ask for more than the faults leave.
        let gentle = spec(1, PATIENT)
            .replace(
                "max_in_flight = 2",
                "max_in_flight = 2\ngate = { success = \"0%\" }",
            )
            .replace(
                "hosts = \"rest\"",
                "hosts = \"rest\"\ngate = { success = \"0%\" }",
            );
        let id = fleet.roll_out(1, &gentle);
        fleet.run(HOUR);
        rest(fleet);
        assert_eq!(fleet.state(id), RolloutState::Completed);
        fleet.look_at_truth(id);
        let outcomes = fleet.input().rollouts[&id].outcomes();
        assert_eq!(outcomes.pending + outcomes.unreached, 0, "{outcomes:?}");
    });
}

#[test]
fn without_faults_every_host_succeeds_and_soaks_are_kept() {
    for_seeds(|fleet| {
        fleet.publish(
            1,
            Behaviour {
                reboots: true,
                ..Behaviour::default()
            },
        );
        fleet.run(Duration::from_mins(1));
        let id = fleet.roll_out(1, &spec(1, PATIENT));
        rest(fleet);
        assert_eq!(fleet.state(id), RolloutState::Completed);
        let outcomes = fleet.input().rollouts[&id].outcomes();
        assert_eq!(outcomes.succeeded as usize, HOSTS, "{outcomes:?}");
        let waves = &fleet.input().rollouts[&id].rollout.waves;
        let opened = waves[1].opened_at.unwrap();
        let good = opened - Duration::from_secs(10);
        assert!(
            waves[0].opened_at.unwrap() <= good,
            "the soak was cut short"
        );
        fleet.look_at_truth(id);
    });
}

#[test]
fn a_bad_release_stops_at_the_canary() {
    for_seeds(|fleet| {
        fleet.publish(1, Behaviour::default());
        fleet.publish(
            2,
            Behaviour {
                check_fails: 1000,
                ..Behaviour::default()
            },
        );
        fleet.run(Duration::from_mins(1));
        let first = fleet.roll_out(1, &spec(1, PATIENT));
        fleet.run(HOUR);
        assert_eq!(fleet.state(first), RolloutState::Completed);
        fleet.faults = Faults {
            cut: 30,
            ..Faults::default()
        };
        let id = fleet.roll_out(2, &spec(2, "[budget]\nunreached = { max = \"100%\" }"));
        fleet.run(HOUR);
        rest(fleet);
        assert_eq!(fleet.state(id), RolloutState::Halted);
        let reached = fleet.hosts.iter().filter(|host| {
            host.activations
                .iter()
                .any(|(_, rollout, _)| *rollout == id)
        });
        assert!(reached.count() <= 2, "more than the canary was reached");
        fleet.look_at_truth(id);
        let one: comber_model::Version = "1".parse().unwrap();
        assert!(
            fleet
                .hosts
                .iter()
                .all(|host| host.active.as_ref() == Some(&one))
        );
    });
}

#[test]
fn after_a_fence_is_closed_nothing_activates() {
    for_seeds(|fleet| {
        fleet.publish(1, Behaviour::default());
        fleet.run(Duration::from_mins(1));
        fleet.faults = HARSH;
        let mut text = spec(1, PATIENT);
        if fleet.below(2) == 0 {
            text = text.replace("permit = \"30s\"", "permit = \"30s\"\ndisconnected = true");
        }
        let id = fleet.roll_out(1, &text);
        let wait = Duration::from_millis(fleet.below(240_000));
        fleet.run(wait);
        while !fleet.controller.up {
            fleet.run(Duration::from_secs(1));
        }
        fleet.command(id, Command::Abort);
        fleet.run(HOUR);
        rest(fleet);
        fleet.look_at_truth(id);
        let outcomes = fleet.input().rollouts[&id].outcomes();
        assert_eq!(outcomes.pending + outcomes.unreached, 0, "{outcomes:?}");
    });
}

#[test]
fn rolling_back_takes_every_host_to_what_it_had() {
    for_seeds(|fleet| {
        fleet.publish(1, Behaviour::default());
        fleet.publish(
            2,
            Behaviour {
                activation_fails: 100,
                ..Behaviour::default()
            },
        );
        fleet.run(Duration::from_mins(1));
        let first = fleet.roll_out(1, &spec(1, PATIENT));
        fleet.run(HOUR);
        assert_eq!(fleet.state(first), RolloutState::Completed);
        let gentle = spec(2, PATIENT)
            .replace(
                "max_in_flight = 2",
                "max_in_flight = 2\ngate = { success = \"0%\" }",
            )
            .replace(
                "hosts = \"rest\"",
                "hosts = \"rest\"\ngate = { success = \"0%\" }",
            );
        let id = fleet.roll_out(2, &gentle);
        let wait = Duration::from_millis(fleet.below(900_000));
        fleet.run(wait);
        fleet.faults = Faults {
            cut: 30,
            agent_crash: 10,
            controller_crash: 10,
            power_cut: 0,
        };
        if !fleet.controller.up || !fleet.command(id, Command::RollBack) {
            return;
        }
        fleet.run(HOUR);
        rest(fleet);
        let one: comber_model::Version = "1".parse().unwrap();
        for host in &fleet.hosts {
            let healthy = host.ledger.broken.is_empty();
            assert!(
                !healthy || host.active.as_ref() == Some(&one),
                "{} runs {:?}",
                host.id,
                host.active
            );
        }
    });
}

/// Two rollouts, one of them an emergency that comes at any moment, over racks of which only some hosts may be down; the
/// fleet looks after each event at who is really down.
#[test]
fn no_rack_has_more_hosts_down_than_its_budget_whatever_fails_and_whoever_asks() {
    for_seeds(|fleet| {
        fleet.publish(1, Behaviour::default());
        fleet.publish(
            2,
            Behaviour {
                reboots: true,
                ..Behaviour::default()
            },
        );
        for index in 0..HOSTS {
            let rack = ["r1", "r2", "r3"][usize::try_from(fleet.below(3)).unwrap()];
            fleet.put_into_rack(index, rack);
        }
        let max = 1 + u32::try_from(fleet.below(2)).unwrap();
        fleet.budget(max);
        fleet.run(Duration::from_mins(1));
        fleet.faults = HARSH;
        let file = |version: u8, hosts: &str, more: &str| {
            format!(
                "release = \"app@{version}\"\nselector = 'host {hosts} \"h06\"'\n{more}\n{PATIENT}[[wave]]\nhosts = \"rest\"\nmax_in_flight = \"100%\"\n"
            )
        };
        let first = fleet.roll_out(1, &file(1, "<", "due = \"20m\""));
        let wait = Duration::from_millis(fleet.below(240_000));
        fleet.run(wait);
        while !fleet.controller.up {
            fleet.run(Duration::from_secs(1));
        }
        let second = fleet.roll_out(2, &file(2, ">=", "priority = \"emergency\""));
        fleet.run(HOUR);
        fleet.look_at_ledger();
        rest(fleet);
        fleet.look_at_ledger();
        for id in [first, second] {
            assert_eq!(fleet.state(id), RolloutState::Completed);
            fleet.look_at_truth(id);
        }
    });
}

const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns"];

/// Windows of some minutes in every third hour, and at night a long one; told in each zone's own time.
fn random_windows(fleet: &mut Fleet) -> Vec<String> {
    let mut windows: Vec<String> = (0..24)
        .step_by(3)
        .map(|hour| {
            let (from, length) = (fleet.below(30), 5 + fleet.below(24));
            format!("daily {hour:02}:{from:02}-{hour:02}:{:02}", from + length)
        })
        .collect();
    windows.push("daily 03:00-05:00".to_owned());
    windows
}

/// By the clock on each host's wall, at the moment at which the activation really began. A host that has not heard of
/// a freeze may use the permit that it has, for as long as that lives.
#[expect(clippy::unwrap_used, reason = "a scene that cannot be set has failed")]
fn look_at_walls(
    fleet: &Fleet,
    id: RolloutId,
    windows: &[String],
    frozen: (&str, jiff::Timestamp),
) {
    let stretch = |text: &str| -> Stretch { text.parse().unwrap() };
    let windows: Vec<Stretch> = windows.iter().map(|text| stretch(text)).collect();
    let (freeze, known) = (stretch(frozen.0), frozen.1 + Duration::from_secs(35));
    for host in &fleet.hosts {
        let record = &fleet.input().hosts[&host.id].host;
        let zone: Zone = record.labels.get("timezone").unwrap().parse().unwrap();
        let begun: Vec<&(jiff::Timestamp, RolloutId, Generation)> = host
            .activations
            .iter()
            .filter(|(_, of, _)| *of == id)
            .collect();
        for (at, _, _) in begun {
            let wall = zone.wall(*at);
            let is_open = windows.iter().any(|window| window.reads(wall));
            assert!(is_open, "{} began at {at}, {wall} in {zone}", host.id);
            let is_frozen = *at > known && freeze.reads(wall);
            assert!(!is_frozen, "{} began at {at}, in the freeze", host.id);
        }
    }
}

#[test]
fn no_host_begins_outside_of_its_windows_or_in_a_freeze_whatever_fails() {
    for_seeds(|fleet| {
        fleet.publish(1, Behaviour::default());
        for index in 0..HOSTS {
            let zone = ZONES[usize::try_from(fleet.below(4)).unwrap()];
            fleet.keep_time(index, zone);
        }
        fleet.run(Duration::from_mins(1));
        fleet.faults = HARSH;
        let windows = random_windows(fleet);
        let margin = fleet.below(2) * 60;
        let file =
            format!("{PATIENT}[windows]\nallow = {windows:?}\nmust_end_within = \"{margin}s\"\n");
        // Crashes count as failed attempts: the gates must not ask for more than the faults leave.
        let mut text = spec(1, &file)
            .replace(
                "max_in_flight = 2",
                "max_in_flight = 2\ngate = { success = \"0%\" }",
            )
            .replace(
                "hosts = \"rest\"",
                "hosts = \"rest\"\ngate = { success = \"0%\" }",
            );
        if fleet.below(2) == 0 {
            text = text.replace("permit = \"30s\"", "permit = \"30s\"\ndisconnected = true");
        }
        let id = fleet.roll_out(1, &text);
        let wait = Duration::from_millis(fleet.below(5_400_000));
        fleet.run(wait);
        let since = fleet.now;
        let freeze = "2027-01-15T00:00..2027-01-15T10:00";
        fleet.freeze(freeze);
        fleet.run(HOUR);
        fleet.faults = Faults::default();
        fleet.run(22 * HOUR);
        look_at_walls(fleet, id, &windows, (freeze, since));
        fleet.look_at_truth(id);
        assert_eq!(fleet.state(id), RolloutState::Completed);
        let outcomes = fleet.input().rollouts[&id].outcomes();
        assert_eq!(outcomes.pending + outcomes.unreached, 0, "{outcomes:?}");
    });
}
