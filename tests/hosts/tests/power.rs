//! Cuts at every state of the machine and at any other instant: a host ends committed or back, and says which truthfully.

use comber_e2e::{all_at_once, assert_outcomes, has, is};
use comber_hosts::{
    Behaviour, Cut, HostLab, LONG, Service, at_every_state, at_random_instants, run_trials, soak,
};
use comber_machine::Policy;
use comber_model::AgentState;
use comber_test_support::wait;

/// Hosts at once; more would only wait for one another on a small machine.
const HOSTS: usize = 4;

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
    let trials = at_random_instants(Cut::Power, soak(6, 100));
    run_trials(&lab, &Service::default(), trials).unwrap();
}

#[test]
#[ignore = "needs root and real hosts"]
fn the_agent_is_killed_at_random_instants_under_load() {
    let lab = HostLab::new(HOSTS).unwrap();
    comber_hosts::put_under_load(&lab).unwrap();
    let trials = at_random_instants(Cut::Agent, soak(6, 100));
    run_trials(&lab, &Service::default(), trials).unwrap();
}

#[test]
#[ignore = "needs root and real hosts"]
fn a_host_that_loses_power_again_and_again_with_a_release_goes_back() {
    let lab = HostLab::new(1).unwrap();
    let host = lab.host(1);
    Service::install_unit(host).unwrap();
    lab.lab()
        .publish(&Service::version("1", Behaviour::Good))
        .unwrap();
    let first = lab.lab().roll_out(&all_at_once("1")).unwrap();
    lab.lab().wait_for(&first, LONG, is("completed")).unwrap();

    let mut product = Service::version("2", Behaviour::Good);
    // Long enough to be cut off each time.
    product.check = format!("sleep 3; {}", product.check);
    lab.lab().publish(&product).unwrap();
    let id = lab.lab().roll_out(&all_at_once("2")).unwrap();
    for cut in 0..=Policy::default().resumes_max {
        let boot = host.boot_id().unwrap();
        let verifies = wait::until(LONG, || {
            let ledger = host.ledger()?;
            (ledger.boot_id.0 == boot && ledger.state.kind() == AgentState::Verifying).then_some(())
        });
        assert!(verifies.is_some(), "cut {cut}: {:#?}", host.ledger());
        host.powercut().unwrap();
        host.start().unwrap();
    }
    let status = lab
        .lab()
        .wait_for(&id, LONG, has(&[("failed", 1)]))
        .unwrap();
    assert_eq!(status["failed_by_class"]["health"], 1, "{status:#}");
    assert_outcomes(lab.lab(), &id, &[("failed", 1)]);
    wait::until(LONG, || (Service::says(host)? == "1").then_some(())).unwrap();
}

#[test]
#[ignore = "needs root and real hosts"]
fn a_host_that_boots_and_crashes_again_goes_back_after_so_many_tries_and_everybody_says_so() {
    let lab = HostLab::new(1).unwrap();
    let host = lab.host(1);
    Service::install_unit(host).unwrap();
    lab.lab()
        .publish(&Service::version("1", Behaviour::Good))
        .unwrap();
    let first = lab.lab().roll_out(&all_at_once("1")).unwrap();
    lab.lab().wait_for(&first, LONG, is("completed")).unwrap();

    // From the reboot that it asks for on, each boot with it ends in a crash while it is looked at.
    let mut product = Service::version("2", Behaviour::CrashesHost);
    product.head = "reboot = \"required\"".to_owned();
    product.check = format!("sleep 60; {}", product.check);
    product.timeouts = product
        .timeouts
        .replace("verify = \"20s\"", "verify = \"2m\"");
    lab.lab().publish(&product).unwrap();
    let id = lab.lab().roll_out(&all_at_once("2")).unwrap();
    let status = lab
        .lab()
        .wait_for(&id, LONG, has(&[("failed", 1)]))
        .unwrap();
    assert_outcomes(lab.lab(), &id, &[("failed", 1)]);
    assert_eq!(status["failed_by_class"]["health"], 1, "{status:#}");
    wait::until(LONG, || (Service::says(host)? == "1").then_some(())).unwrap();
    host.wait().unwrap();
    let crashes = host.read("/var/lib/app.crashes").unwrap();
    let crashes = String::from_utf8(crashes).unwrap().lines().count();
    let most = usize::try_from(Policy::default().resumes_max).unwrap();
    // In the boot after the last one that is allowed it goes back; that may take longer than the next crash.
    assert!(
        (most + 1..=most + 2).contains(&crashes),
        "{crashes} crashes, and it is taken up again {most} times"
    );
    let hosts = lab.comber().json(&["rollout", "hosts", &id]).unwrap();
    assert!(
        hosts.to_string().contains("interrupted"),
        "the controller does not say why: {hosts:#}"
    );
    let history = host.exec(&["comber-agent", "history"]).unwrap();
    assert!(history.contains("rolled_back"), "{history}");
}
