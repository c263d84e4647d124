//! The `module` installer on real hosts: cut at every state, a host is committed or back, and no call ran twice that must
//! not.

use comber_hosts::{Cut, HostLab, Page, at_every_state, at_random_instants, run_trials, soak};

/// Hosts at once; more would only wait for one another on a small machine.
const HOSTS: usize = 4;

#[test]
#[ignore = "needs root and real hosts"]
fn power_is_cut_at_every_state_of_a_module() {
    let lab = HostLab::new(HOSTS).unwrap();
    let mut trials = at_every_state(Cut::Power, soak(1, 3));
    trials.extend(at_random_instants(Cut::Power, soak(4, 100)));
    run_trials(&lab, &Page::default(), trials).unwrap();
}

#[test]
#[ignore = "needs root and real hosts"]
fn the_agent_is_killed_at_every_state_of_a_module() {
    let lab = HostLab::new(HOSTS).unwrap();
    let mut trials = at_every_state(Cut::Agent, soak(1, 3));
    trials.extend(at_random_instants(Cut::Agent, soak(4, 100)));
    run_trials(&lab, &Page::default(), trials).unwrap();
}
