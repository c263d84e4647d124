//! A release that breaks on one kernel only, on a seeded fleet of 1,000 hosts: representative canaries meet that kernel
//! in the first wave, and canaries picked at random do not.

use std::collections::BTreeSet;

use comber_model::rollout::{Outcome, RolloutState};
use comber_model::{AgentState, HostId, RolloutId};
use comber_planner::Command;

use crate::fleet::End;
use crate::world::World;

const FLEET: usize = 1000;
/// Canaries: one in a hundred, as many people would choose.
const CANARIES: usize = 10;
/// 12 of the 1,000 hosts run it.
const BAD_KERNEL: &str = "5.10.0-28-amd64";

/// Chance from a seed: splitmix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).unwrap()
    }
}

/// The value whose share the draw falls into.
fn draw<'a>(chance: &mut Chance, shares: &[(&'a str, usize)]) -> &'a str {
    let total = shares.iter().map(|(_, share)| share).sum();
    let mut left = chance.below(total);
    for (value, share) in shares {
        if left < *share {
            return value;
        }
        left -= share;
    }
    unreachable!("the draw is below the total")
}

fn fleet(seed: u64) -> World {
    let mut chance = Chance(seed);
    let mut world = World::new();
    world.publish("app@1", "");
    world.publish("app@2", "");
    for number in 0..FLEET {
        let os = draw(&mut chance, &[("debian", 6), ("ubuntu", 3), ("rhel", 1)]);
        let kernel = draw(
            &mut chance,
            &[
                ("6.1.0-18-amd64", 60),
                ("6.8.0-31-generic", 30),
                ("6.12.5", 10),
            ],
        );
        // Exactly twelve, spread by the seed, whatever else is drawn.
        let kernel = if number % 83 == usize::try_from(seed % 83).unwrap() {
            BAD_KERNEL
        } else {
            kernel
        };
        let arch = draw(&mut chance, &[("x86_64", 9), ("aarch64", 1)]);
        let role = draw(
            &mut chance,
            &[("web", 12), ("db", 4), ("cache", 3), ("edge", 1)],
        );
        let labels = [
            ("facts.os", os),
            ("facts.kernel", kernel),
            ("facts.arch", arch),
            ("role", role),
        ];
        let host = world.enrol(&format!("h{number:04}"), &labels);
        world.install(&host, &"app@1".parse().unwrap());
    }
    world
}

/// Rolls the release out until nothing moves any more.
fn roll_out(seed: u64, pick: &str) -> (World, RolloutId) {
    let mut world = fleet(seed);
    let id = world.create(&format!(
        "release = \"app@2\"\nselector = \"true\"\nenvironments = [\"os\", \"kernel\", \"arch\", \"labels.role\"]\n\
         [budget]\nfailures = {{ max = \"2%\", min_sample = 100 }}\n[pace]\nmax_in_flight = \"100%\"\n\
         [[wave]]\nname = \"canary\"\nhosts = {{ count = {CANARIES}, pick = \"{pick}\" }}\n\
         [[wave]]\nhosts = \"20%\"\ngate = {{ success = \"100%\" }}\n[[wave]]\nhosts = \"rest\"\n"
    ));
    world.command(id, Command::Start).unwrap();
    loop {
        let asking = |host: &&HostId| {
            let state = world.agents[*host].status.state;
            matches!(state, AgentState::Fetching | AgentState::Staged)
        };
        let hosts: Vec<HostId> = world.input.hosts.keys().filter(asking).cloned().collect();
        if hosts.is_empty() || world.view(id).rollout.state != RolloutState::Running {
            return (world, id);
        }
        for host in &hosts {
            world.ask(host);
        }
        world.plan();
        for host in &hosts {
            if world.activate(host) {
                let facts = &world.input.hosts[host].host.facts;
                let end = if facts.kernel == BAD_KERNEL {
                    let class = comber_model::FailureClass::Health;
                    End::Fail(class, "the service does not start".to_owned())
                } else {
                    End::Commit
                };
                world.end(host, &end);
            }
        }
        world.plan();
    }
}

/// Waves that opened, hosts that the release was activated on, and hosts that it broke.
fn told(world: &World, id: RolloutId) -> (usize, usize, usize) {
    let view = world.view(id);
    let waves = view.rollout.waves.iter();
    let opened = waves.filter(|wave| wave.opened_at.is_some()).count();
    let forward: BTreeSet<&HostId> = world
        .activations
        .iter()
        .filter(|(_, _, goes_back, _)| !goes_back)
        .map(|(host, ..)| host)
        .collect();
    let failed = view
        .members
        .values()
        .filter(|member| matches!(member.outcome(), Outcome::Failed { .. }))
        .count();
    (opened, forward.len(), failed)
}

#[test]
fn representative_canaries_stop_in_the_first_wave_what_random_ones_let_through() {
    let mut passed = 0;
    for seed in [1, 7, 42] {
        let (world, id) = roll_out(seed, "representative");
        let cover = world.view(id).rollout.cover.clone().unwrap();
        let state = world.view(id).rollout.state;
        let (opened, reached, failed) = told(&world, id);
        println!(
            "seed {seed}, representative: wave 1 {}; {state} in wave {opened} after {reached} hosts, {failed} broken",
            cover.of_first_wave()
        );
        assert_eq!((state, opened), (RolloutState::Halted, 1));
        assert!(reached <= CANARIES && failed >= 1);
        assert!(cover.of_first_wave().missing.is_empty());

        let (world, id) = roll_out(seed, "random");
        let state = world.view(id).rollout.state;
        let (opened, reached, failed) = told(&world, id);
        println!(
            "seed {seed}, random:         {state} in wave {opened} after {reached} hosts, {failed} broken"
        );
        passed += usize::from(opened > 1);
    }
    assert!(
        passed >= 2,
        "random canaries met the kernel {passed} of 3 times only"
    );
}
