//! Previews tell exactly what then happens, and how far a bad release gets at most.

use std::collections::BTreeSet;

use comber_model::rollout::{ExcludedReason, RolloutSpec, RolloutState};
use comber_model::{HostId, RolloutId};
use comber_planner::{Command, exposure, preview, preview_as};
use proptest::prelude::*;

use crate::fleet::End;
use crate::world::World;
use comber_model::FailureClass;

const R1: RolloutId = RolloutId(1);

fn world(hosts: usize, release: &str) -> World {
    let mut world = World::new();
    world.publish("app@2", release);
    for number in 0..hosts {
        world.enrol(
            &format!("h{number:02}"),
            &[("n", &(number % 3).to_string())],
        );
    }
    world
}

#[test]
fn a_preview_is_what_happens() {
    let mut world = world(20, "platforms = 'labels.n != \"2\"'");
    let away: HostId = "h01".parse().unwrap();
    world.set_link(&away, false);
    let id = world.create(
        "release = \"app@2\"\nselector = \"true\"\n[[wave]]\nhosts = 3\n\
         [[wave]]\nhosts = \"30%\"\n[[wave]]\nhosts = \"rest\"\n",
    );
    let spec = world.view(id).rollout.spec.clone();
    let told = preview_as(&world.input, &spec, id, world.now).unwrap();
    world.command(id, Command::Start).unwrap();
    assert_eq!(told.total, world.view(id).members.len());
    for (index, wave) in told.waves.iter().enumerate() {
        let mut hosts = world.wave(id, u16::try_from(index).unwrap());
        hosts.retain(|host| told.excluded.iter().all(|(other, _)| other != host));
        assert_eq!(wave.hosts, hosts);
    }
    assert_eq!(told.waves[0].hosts.len(), 3);
    // 30 % of the 14 applicable hosts, rounded up.
    assert_eq!(told.waves[1].hosts.len(), 5);
    assert!(
        !told.waves[0].hosts.contains(&away),
        "an absent host is no canary"
    );
    assert!(
        told.excluded
            .iter()
            .all(|(_, why)| *why == ExcludedReason::NotApplicable)
    );
    assert_eq!(told.excluded.len(), 6);
}

#[test]
fn a_rollout_that_is_not_created_is_previewed_as_the_next() {
    let mut world = world(9, "");
    let source = "release = \"app@2\"\nselector = \"true\"\n[[wave]]\nhosts = \"rest\"\n";
    let spec = RolloutSpec::parse(source).unwrap();
    let before = preview(&world.input, &spec, world.now).unwrap();
    let id = world.create(source);
    assert_eq!(
        before,
        preview_as(&world.input, &spec, id, world.now).unwrap()
    );
}

#[test]
fn the_order_is_another_for_each_rollout() {
    let world = world(30, "");
    let source = "release = \"app@2\"\nselector = \"true\"\n[[wave]]\nhosts = \"rest\"\n";
    let spec = RolloutSpec::parse(source).unwrap();
    let first = |id| {
        let preview = preview_as(&world.input, &spec, RolloutId(id), world.now).unwrap();
        preview.waves[0].hosts[0].clone()
    };
    let firsts: BTreeSet<HostId> = (1..=20).map(first).collect();
    assert!(
        firsts.len() > 8,
        "always the same hosts go first: {firsts:?}"
    );
}

#[test]
fn what_selectors_ask_of_packages_is_named_and_selects() {
    let mut world = World::new();
    world.publish("app@2", "platforms = '!(\"snapd\" in facts.packages)'");
    let hosts = ["a", "b", "c", "d"].map(|name| world.enrol(name, &[]));
    let has = [
        vec![("openssl", "3.0.11-1")],
        vec![("openssl", "3.0.11-1"), ("nginx", "1")],
        vec![("openssl", "3.0.15-1")],
        vec![("openssl", "3.0.11-1"), ("snapd", "2")],
    ];
    for (host, has) in hosts.iter().zip(has) {
        let mut view = world.input.hosts.get_mut(host).unwrap();
        for (name, version) in has {
            view.versions.set(name.into(), Some(version.into()));
        }
    }
    let source = "release = \"app@2\"\nselector = 'facts.packages[\"openssl\"] == \"3.0.11-1\"'\n[[wave]]\n\
                  hosts = { selector = '\"nginx\" in facts.packages' }\n[[wave]]\nhosts = \"rest\"\n";
    let spec = RolloutSpec::parse(source).unwrap();
    let release = &world.input.releases[&spec.release];
    let asked = comber_planner::asked_packages(&spec, Some(release));
    let asked: Vec<&str> = asked.iter().map(AsRef::as_ref).collect();
    assert_eq!(asked, ["nginx", "openssl", "snapd"]);
    let preview = preview(&world.input, &spec, world.now).unwrap();
    let [a, b, _, d] = hosts;
    let waves: Vec<_> = preview.waves.iter().map(|wave| &wave.hosts).collect();
    assert_eq!(waves, [&vec![b], &vec![a]]);
    assert_eq!(preview.excluded, [(d, ExcludedReason::NotApplicable)]);
}

#[test]
fn a_wave_of_a_selector_takes_its_hosts() {
    let world = world(9, "");
    let source = "release = \"app@2\"\nselector = \"true\"\n[[wave]]\n\
                  hosts = { selector = 'labels.n == \"1\"' }\n[[wave]]\nhosts = \"rest\"\n";
    let spec = RolloutSpec::parse(source).unwrap();
    let told = preview(&world.input, &spec, world.now).unwrap();
    let first: BTreeSet<&str> = told.waves[0].hosts.iter().map(HostId::as_str).collect();
    assert_eq!(first, BTreeSet::from(["h01", "h04", "h07"]));
}

#[test]
fn every_problem_names_its_field() {
    let world = world(2, "");
    let problems = |source: &str| {
        let spec = RolloutSpec::parse(source).unwrap();
        let problems = preview(&world.input, &spec, world.now).unwrap_err();
        problems
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    };
    let rest = "[[wave]]\nhosts = \"rest\"\n";
    assert_eq!(
        problems(&format!("release = \"app@9\"\nselector = \"true\"\n{rest}")),
        "release: app@9 is not published; publish it with: comber release publish"
    );
    assert_eq!(
        problems(&format!(
            "release = \"app@2\"\nselector = 'labels.n == \"7\"'\n{rest}"
        )),
        "selector: selects no host"
    );
    assert_eq!(
        problems(&format!(
            "release = \"app@2\"\nselector = \"true\"\n[[wave]]\nhosts = 5\n{rest}"
        )),
        "wave[1].hosts: no host is left for this wave"
    );
}

#[test]
fn exposure_grows_as_failures_get_rarer() {
    let world = world(60, "");
    let source = "release = \"app@2\"\nselector = \"true\"\n[budget]\n\
                  failures = { max = \"10%\", min_sample = 10 }\n[pace]\nmax_in_flight = 2\n\
                  [[wave]]\nhosts = 5\ngate = { success = \"0%\" }\n[[wave]]\nhosts = \"rest\"\n\
                  gate = { success = \"20%\" }\n";
    let spec = RolloutSpec::parse(source).unwrap();
    let reached: Vec<usize> = ["100%", "50%", "20%", "12%", "5%"]
        .iter()
        .map(|share| exposure(&world.input, &spec, share.parse().unwrap()).unwrap())
        .collect();
    assert!(reached.is_sorted(), "{reached:?}");
    assert_eq!(
        reached[4], 60,
        "what stays within the budget reaches every host"
    );
    assert!(reached[0] < 10, "{reached:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// The number told before the start holds for a release that fails on every host.
    #[test]
    fn a_bad_release_reaches_no_more_hosts_than_told(
        hosts in 3..14usize,
        canary in 1..4u32,
        at_once in 1..5u32,
        max in 0..4u32,
        percent in any::<bool>(),
        success in prop_oneof![Just(0u8), 1..101u8],
    ) {
        let mut world = world(hosts.max(canary as usize + 1), "");
        let max = if percent { format!("\"{}%\"", max * 10) } else { max.to_string() };
        let id = world.create(&format!(
            "release = \"app@2\"\nselector = \"true\"\n[budget]\n\
             failures = {{ max = {max}, min_sample = 4 }}\n[pace]\nmax_in_flight = {at_once}\n\
             [[wave]]\nhosts = {canary}\n\
             [[wave]]\nhosts = \"rest\"\ngate = {{ success = \"{success}%\" }}\n"
        ));
        let spec = world.view(id).rollout.spec.clone();
        let told = preview_as(&world.input, &spec, id, world.now).unwrap().exposed;
        world.command(id, Command::Start).unwrap();
        let mut reached = BTreeSet::new();
        for _ in 0..200 {
            let names: Vec<HostId> = world.agents.keys().cloned().collect();
            for host in &names {
                world.ask(host);
            }
            world.plan();
            let active: Vec<HostId> =
                names.into_iter().filter(|host| world.activate(host)).collect();
            world.plan();
            // They fail one after another; the others of them were reached as well.
            for host in &active {
                reached.insert(host.clone());
                world.end(host, &End::Fail(FailureClass::Health, "x".to_owned()));
                world.plan();
            }
            if active.is_empty() {
                break;
            }
        }
        prop_assert!(reached.len() <= told, "told {told}, reached {}", reached.len());
        prop_assert!(world.view(R1).rollout.state != RolloutState::Running || told < world.agents.len() + 1);
    }
}
