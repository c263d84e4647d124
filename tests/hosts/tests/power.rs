//! Cuts at every state of the machine and at any other instant: a host ends committed or back, and says which truthfully.

use std::time::Duration;

use comber_hosts::{Cut, HostLab, Service, at_every_state, at_random_instants, run_trials, soak};

/// Hosts at once; more would only wait for one another on a small machine.
const HOSTS: usize = 4;

/// From the rollout's begin until the slowest attempt, one that reboots twice, is over.
const SPAN: Duration = Duration::from_secs(6);

#[test]
#[ignore = "needs root and real hosts"]
fn power_is_cut_at_every_state() {
    let lab = HostLab::new(HOSTS).unwrap();
    let trials = at_every_state(Cut::Power, soak(1, 3));
    run_trials(&lab, &Service::default(), trials).unwrap();
}

#[test]
#[ignore = "needs root and real hosts"]
fn the_agent_is_killed_at_every_state() {
    let lab = HostLab::new(HOSTS).unwrap();
    let trials = at_every_state(Cut::Agent, soak(1, 3));
    run_trials(&lab, &Service::default(), trials).unwrap();
}

#[test]
#[ignore = "needs root and real hosts"]
fn power_is_cut_at_random_instants_under_load() {
    let lab = HostLab::new(HOSTS).unwrap();
    comber_hosts::put_under_load(&lab).unwrap();
    let trials = at_random_instants(Cut::Power, soak(10, 100), SPAN);
    run_trials(&lab, &Service::default(), trials).unwrap();
}

#[test]
#[ignore = "needs root and real hosts"]
fn the_agent_is_killed_at_random_instants_under_load() {
    let lab = HostLab::new(HOSTS).unwrap();
    comber_hosts::put_under_load(&lab).unwrap();
    let trials = at_random_instants(Cut::Agent, soak(10, 100), SPAN);
    run_trials(&lab, &Service::default(), trials).unwrap();
}
