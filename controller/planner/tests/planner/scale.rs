//! How long a plan takes for thousands of hosts. Prints, asserts no time: `cargo nextest run scale --no-capture`.

use comber_model::rollout::RolloutState;
use comber_model::{HostId, RolloutId};
use comber_planner::{Command, check, plan};

use crate::fleet::End;
use crate::world::World;

/// Raise it to 20,000 for figures that mean something; a test run should not wait for them.
const HOSTS: u32 = 4_000;

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "prints how long a plan takes; decides nothing"
)]
#[expect(
    clippy::disallowed_types,
    reason = "prints how long a plan takes; decides nothing"
)]
fn plans_for_thousands_of_hosts() {
    let mut world = World::new();
    world.publish("app@2", "");
    for number in 0..HOSTS {
        world.enrol(&format!("host-{number:05}"), &[("role", "web")]);
    }
    world.create(
        "release = \"app@2\"\nselector = 'labels.role == \"web\"'\n[pace]\nmax_in_flight = \"50%\"\n\
         [[wave]]\nhosts = 1\n[[wave]]\nhosts = \"rest\"\n",
    );
    let timed = |world: &mut World, what: &str, act: &mut dyn FnMut(&mut World)| {
        act(world);
        let begin = std::time::Instant::now();
        let (made, report) = plan(&world.input, world.now);
        let planned = begin.elapsed();
        let findings = check(&world.input, &made, world.now);
        let checked = begin.elapsed().checked_sub(planned).unwrap();
        assert_eq!(findings, Vec::new());
        println!(
            "{what}: {planned:?} to plan in {} rounds, {checked:?} to check; {} members, {} hosts told",
            report.rounds,
            made.members.len(),
            made.desired.len()
        );
        world.plan();
    };
    let canary = |world: &World| world.wave(RolloutId(1), 0)[0].clone();
    timed(&mut world, "nothing to do", &mut |_| {});
    timed(&mut world, "select", &mut |world| {
        let effect = comber_planner::command(
            &world.input,
            RolloutId(1),
            Command::Start,
            "anna",
            world.now,
        );
        world.input.put_rollout(effect.unwrap().rollout);
    });
    timed(&mut world, "one host asks", &mut |world| {
        let host = canary(world);
        world.ask(&host);
    });
    timed(&mut world, "the wave of all others opens", &mut |world| {
        let host = canary(world);
        world.activate(&host);
        world.end(&host, &End::Commit);
    });
    let others = world.wave(RolloutId(1), 1);
    timed(&mut world, "all ask", &mut |world| {
        for host in &others {
            world.ask(host);
        }
    });
    timed(&mut world, "one reports", &mut |world| {
        let host: &HostId = others.iter().find(|host| world.activate(host)).unwrap();
        world.end(&host.clone(), &End::Commit);
    });
    assert_eq!(
        world.view(RolloutId(1)).rollout.state,
        RolloutState::Running
    );
}
