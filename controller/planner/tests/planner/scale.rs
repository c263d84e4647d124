//! How long a plan takes, and how that grows with the fleet. Prints, asserts no time:
//!
//! ```text
//! COMBER_SCALE=1000,10000,100000 cargo nextest run --cargo-profile bench -p comber-planner scale --no-capture
//! ```

use std::time::Duration;

use comber_model::rollout::RolloutState;
use comber_model::{HostId, RolloutId};
use comber_planner::{Command, check, plan};

use crate::fleet::End;
use crate::world::World;

/// What a test run should not have to wait for.
const SIZES: &str = "500,2000";

/// What was measured of one fleet.
struct Taken {
    what: &'static str,
    plan: Duration,
    check: Duration,
}

#[expect(
    clippy::disallowed_methods,
    reason = "how much is measured is said by the environment"
)]
fn sizes() -> Vec<u32> {
    let said = std::env::var("COMBER_SCALE").unwrap_or_else(|_| SIZES.to_owned());
    said.split(',').map(|size| size.parse().unwrap()).collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "prints how long a plan takes; decides nothing"
)]
#[expect(
    clippy::disallowed_types,
    reason = "prints how long a plan takes; decides nothing"
)]
fn timed(world: &mut World, what: &'static str, act: impl FnOnce(&mut World)) -> Taken {
    act(world);
    let begin = std::time::Instant::now();
    let (made, _) = plan(&world.input, world.now);
    let planned = begin.elapsed();
    let findings = check(&world.input, &made, world.now);
    let checked = begin.elapsed().checked_sub(planned).unwrap();
    assert_eq!(findings, Vec::new());
    world.plan();
    Taken {
        what,
        plan: planned,
        check: checked,
    }
}

/// A fleet in racks of 40 with a budget for each, a canary of five hosts, and one wave for all others.
fn measure(hosts: u32) -> Vec<Taken> {
    let mut world = World::new();
    world.publish("app@2", "");
    for number in 0..hosts {
        let rack = format!("r{}", number / 40);
        world.enrol(
            &format!("host-{number:07}"),
            &[("role", "web"), ("rack", &rack)],
        );
    }
    world.budget("racks", "10", &["by", "labels.rack"]);
    world.create(
        "release = \"app@2\"\nselector = 'labels.role == \"web\"'\n[pace]\nmax_in_flight = \"50%\"\n\
         [[wave]]\nhosts = 5\nmax_in_flight = 5\n[[wave]]\nhosts = \"rest\"\nmax_in_flight = 100\n",
    );
    let mut taken = Vec::new();
    taken.push(timed(&mut world, "the first plan: selection", |world| {
        let now = world.now;
        let effect =
            comber_planner::command(&world.input, RolloutId(1), Command::Start, "anna", now);
        world.input.put_rollout(effect.unwrap().rollout);
    }));
    let canaries = world.wave(RolloutId(1), 0);
    for host in &canaries {
        world.ask(host);
    }
    world.plan();
    for host in &canaries {
        world.activate(host);
    }
    world.plan();
    taken.push(timed(
        &mut world,
        "one canary reports, all others wait for their wave",
        |world| {
            world.end(&canaries[0], &End::Commit);
        },
    ));
    taken.push(timed(&mut world, "the wave of all others opens", |world| {
        for host in &canaries[1..] {
            world.end(host, &End::Commit);
        }
    }));
    let others = world.wave(RolloutId(1), 1);
    for host in &others {
        world.ask(host);
    }
    world.plan();
    taken.push(timed(
        &mut world,
        "one of all others reports, all ask",
        |world| {
            let host: &HostId = others.iter().find(|host| world.activate(host)).unwrap();
            world.end(&host.clone(), &End::Commit);
        },
    ));
    assert_eq!(
        world.view(RolloutId(1)).rollout.state,
        RolloutState::Running
    );
    taken
}

#[test]
fn plans_grow_with_what_changed() {
    let sizes = sizes();
    let mut first: Option<Vec<Taken>> = None;
    for size in sizes {
        let taken = measure(size);
        println!("{size} hosts");
        for (index, one) in taken.iter().enumerate() {
            let base = first.as_ref().map_or(one, |first| &first[index]);
            let times = |now: Duration, then: Duration| now.as_secs_f64() / then.as_secs_f64();
            println!(
                "  {}: plan {:?} (x{:.1}), check {:?} (x{:.1})",
                one.what,
                one.plan,
                times(one.plan, base.plan),
                one.check,
                times(one.check, base.check)
            );
        }
        first.get_or_insert(taken);
    }
}
