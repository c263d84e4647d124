//! What is tried again, and what a halt takes back.

use std::fs;

use comber_e2e::{LONG, all_at_once, assert_outcomes, has, is};
use comber_test_support::{Lab, Product, wait};

#[test]
fn a_fetch_that_fails_is_tried_again_until_the_bytes_are_there() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 2, &[]).unwrap();
    lab.publish(&Product::good("1")).unwrap();
    let artifacts = lab.directory().join("controller/artifacts");
    let away = lab.directory().join("away");
    fs::rename(&artifacts, &away).unwrap();
    fs::create_dir(&artifacts).unwrap();
    let spec = all_at_once("1").replace(
        "[[wave]]",
        "[retry]\nclasses = { fetch = 10 }\nbackoff = \"1s\"\n[[wave]]",
    );
    let id = lab.roll_out(&spec).unwrap();
    let told = wait::until(LONG, || {
        let why = lab.comber().ok(&["why", "host", "h1"]).ok()?;
        why.contains("the next").then_some(why)
    });
    assert!(told.is_some(), "nobody says that it is tried again");
    fs::remove_dir_all(&artifacts).unwrap();
    fs::rename(&away, &artifacts).unwrap();
    lab.wait_for(&id, LONG, is("completed")).unwrap();
    assert_outcomes(&lab, &id, &[("succeeded", 2)]);
    let hosts = lab.comber().json(&["rollout", "hosts", &id]).unwrap();
    assert!(
        hosts["hosts"][0]["attempts"].as_u64() > Some(1),
        "{hosts:#}"
    );
}

#[test]
fn tries_end_where_the_file_says_so() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 1, &[]).unwrap();
    let mut product = Product::bad("1");
    product.start = "echo start >> ../../../starts".to_owned();
    lab.publish(&product).unwrap();
    let spec = all_at_once("1").replace(
        "[[wave]]",
        "[retry]\nclasses = { health = 2 }\nbackoff = \"100ms\"\n[[wave]]",
    );
    let id = lab.roll_out(&spec).unwrap();
    lab.wait_for(&id, LONG, has(&[("failed", 1)])).unwrap();
    let hosts = lab.comber().json(&["rollout", "hosts", &id]).unwrap();
    assert_eq!(hosts["hosts"][0]["attempts"], 3, "{hosts:#}");
    let starts = fs::read_to_string(lab.host("h1").join("root/starts")).unwrap();
    assert_eq!(starts.lines().count(), 3);
    assert_eq!(lab.running("h1"), None);
}

#[test]
fn on_halt_the_open_wave_goes_back_and_the_passed_one_stays() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 5, &[]).unwrap();
    lab.publish(&Product::good("1")).unwrap();
    let first = lab.roll_out(&all_at_once("1")).unwrap();
    lab.wait_for(&first, LONG, is("completed")).unwrap();
    // Good on four hosts, bad on the fifth, which lets the others of its wave go first.
    let mut mixed = Product::good("2");
    mixed.check = "test ! -e ../../../broken || { sleep 1; exit 1; }".to_owned();
    fs::write(lab.host("h5").join("root/broken"), "").unwrap();
    lab.publish(&mixed).unwrap();
    let spec = "release = \"app@2\"\nselector = \"true\"\non_halt = \"roll_back_wave\"\n[pace]\nmax_in_flight = \"100%\"\n[budget]\nfailures = { max = 0 }\n[[wave]]\nhosts = { selector = 'host in [\"h1\", \"h2\"]' }\n[[wave]]\nhosts = \"rest\"\n";
    let id = lab.roll_out(spec).unwrap();
    let back = wait::until(LONG, || {
        let status = lab.status(&id).ok()?;
        let settled = is("halted")(&status) && status["outcomes"]["pending"] == 0;
        let there = ["h3", "h4", "h5"]
            .iter()
            .all(|host| lab.running(host).as_deref() == Some("1"));
        (settled && there).then_some(())
    });
    assert!(back.is_some(), "{:#}", lab.status(&id).unwrap());
    for host in ["h1", "h2"] {
        assert_eq!(lab.running(host).as_deref(), Some("2"), "{host}");
    }
    let again = lab.comber().run(&["rollout", "resume", &id]).unwrap();
    assert_ne!(again.code, 0, "went on after a roll-back");
}

#[test]
fn a_halted_rollout_goes_on_where_an_operator_says_so() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 4, &[]).unwrap();
    let mut mixed = Product::good("1");
    mixed.check = "test ! -e ../../../broken".to_owned();
    fs::write(lab.host("h1").join("root/broken"), "").unwrap();
    lab.publish(&mixed).unwrap();
    let spec = "release = \"app@1\"\nselector = \"true\"\n[pace]\nmax_in_flight = 1\n[budget]\nper_class = { health = 0 }\nfailures = { max = \"100%\", min_sample = 1 }\n[[wave]]\nhosts = { selector = 'host == \"h1\"' }\n[[wave]]\nhosts = \"rest\"\ngate = { success = \"0%\" }\n";
    let id = lab.roll_out(spec).unwrap();
    let halted = lab.wait_for(&id, LONG, is("halted")).unwrap();
    assert!(halted["halt"].to_string().contains("health"), "{halted:#}");
    lab.comber().ok(&["rollout", "resume", &id]).unwrap();
    lab.wait_for(&id, LONG, has(&[("succeeded", 3), ("failed", 1)]))
        .unwrap();
    lab.wait_for(&id, LONG, is("completed")).unwrap();
    assert_outcomes(&lab, &id, &[("succeeded", 3), ("failed", 1)]);
}
