//! The `package` installer on real hosts: a package of Debian's own in two versions, and packages that are cut off.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use comber_e2e::{assert_outcomes, has, is};
use comber_hosts::{
    Cut, Host, HostLab, LONG, Packages, Vendor as _, Wish, at_every_state, at_random_instants_of,
    put_under_load, run_trials, soak,
};

/// Hosts at once in trials; more would only wait for one another on a small machine.
const HOSTS: usize = 4;
/// Of Debian's packages: a program, and the library that must have its version. Another is needed by both.
const PROGRAM: [&str; 2] = ["jq", "libjq1"];
const NEEDED: &str = "libonig5";

/// About how long the package manager needs on a busy machine, once for a good release and twice for one that goes back:
/// instants are spread over that.
const KINDS: [(Wish, Duration); 2] = [
    (Wish::GOOD, Duration::from_secs(5)),
    (Wish::BAD, Duration::from_secs(9)),
];

/// The two newest versions that Debian's archive has of a package, the older one first; none where it has one only.
fn versions(package: &str) -> Option<[String; 2]> {
    let output = Command::new("apt-cache")
        .args(["madison", package])
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut versions: Vec<&str> = said
        .lines()
        .filter_map(|line| line.split('|').nth(1))
        .map(str::trim)
        .collect();
    versions.dedup();
    match versions[..] {
        [new, old, ..] => Some([old.to_owned(), new.to_owned()]),
        _ => None,
    }
}

/// Downloads packages from Debian's archive into a directory.
#[expect(clippy::unwrap_used, reason = "a test that cannot download has failed")]
fn download(directory: &Path, packages: &[String]) -> Vec<PathBuf> {
    fs::create_dir_all(directory).unwrap();
    let output = Command::new("apt-get")
        .args(["-o", "APT::Sandbox::User=root", "download"])
        .args(packages)
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// All that dpkg and apt say of the packages of a host.
#[expect(clippy::unwrap_used, reason = "a test that cannot ask has failed")]
fn packages(host: &Host) -> String {
    host.shell("dpkg -l; apt-mark showmanual; dpkg --audit")
        .unwrap()
}

#[test]
#[ignore = "needs root and real hosts"]
fn a_package_of_debian_goes_over_real_hosts_in_waves_and_back() {
    let Some([old, new]) = versions(PROGRAM[0]) else {
        println!(
            "skipped: Debian's archive has one version of {} only",
            PROGRAM[0]
        );
        return;
    };
    let lab = HostLab::new(5).unwrap();
    let directory = lab.lab().directory().join("debian");
    let of = |version: &str| PROGRAM.map(|name| format!("{name}={version}")).to_vec();
    let mut before = of(&old);
    before.push(NEEDED.to_owned());
    let before = download(&directory.join("old"), &before);
    for host in lab.fleet().hosts() {
        let paths: Vec<String> = before
            .iter()
            .map(|file| format!("/root/{}", file.file_name().unwrap().to_str().unwrap()))
            .collect();
        for (file, path) in before.iter().zip(&paths) {
            host.push(file, path).unwrap();
        }
        let paths = paths.join(" ");
        host.shell(&format!(
            "apt-get install -y -q {paths}; apt-mark auto -q {NEEDED} libjq1; rm {paths}; sync"
        ))
        .unwrap();
    }
    let was: Vec<String> = lab.fleet().hosts().iter().map(packages).collect();

    // As a publisher makes it: the packages of a security update, and a check that the program works.
    let release = directory.join("release");
    download(&release.join("files"), &of(&new));
    let text = "name = \"jq\"\nversion = \"2\"\ncategory = \"security\"\n\
        [installer]\ntype = \"package\"\nonly_installed = true\n\
        [[check]]\nname = \"works\"\nexec = { command = [\"jq\", \"-n\", \"1 + 1\"] }\n";
    fs::write(release.join("release.toml"), text).unwrap();
    lab.lab().publish_directory(&release).unwrap();
    let spec = "release = \"jq@2\"\nselector = \"true\"\n[[wave]]\nhosts = 1\n[[wave]]\nhosts = 2\n[[wave]]\nhosts = \"rest\"\n";
    let id = lab.lab().roll_out(spec).unwrap();
    lab.lab().wait_for(&id, LONG, is("completed")).unwrap();
    assert_outcomes(lab.lab(), &id, &[("succeeded", 5)]);
    for (host, was) in lab.fleet().hosts().iter().zip(&was) {
        for name in PROGRAM {
            let said = host.exec(&["dpkg", "-l", name]).unwrap();
            let line = said.lines().last().unwrap_or_default();
            let words: Vec<_> = line.split_whitespace().take(3).collect();
            assert_eq!(words[0], "ii", "{}: {line}", host.name());
            assert_eq!(words[2], new, "{}: {line}", host.name());
        }
        assert_ne!(&packages(host), was);
    }

    lab.comber()
        .ok(&["rollout", "rollback", &id, "--yes"])
        .unwrap();
    let gone = |host: &Host| {
        let ledger = host.ledger()?;
        ledger.installed.is_empty().then_some(())
    };
    for (host, was) in lab.fleet().hosts().iter().zip(&was) {
        comber_test_support::wait::until(LONG, || gone(host)).unwrap();
        assert_eq!(&packages(host), was, "{}", host.name());
    }
}

#[test]
#[ignore = "needs root and real hosts"]
fn a_package_whose_script_hangs_is_ended_and_undone() {
    let lab = HostLab::new(1).unwrap();
    let (host, vendor) = (lab.host(1), Packages::default());
    vendor.prepare(host).unwrap();
    let good = vendor.make(&lab, &Wish::GOOD).unwrap();
    let spec = |release: &str| {
        format!(
            "release = \"{release}\"\nselector = \"true\"\n[budget]\nfailures = {{ max = \"100%\" }}\n[[wave]]\nhosts = \"rest\"\n"
        )
    };
    let id = lab.lab().roll_out(&spec(&good.release)).unwrap();
    lab.lab().wait_for(&id, LONG, is("completed")).unwrap();
    let was = packages(host);

    let hanging = vendor.make_hanging(&lab).unwrap();
    let id = lab.lab().roll_out(&spec(&hanging.release)).unwrap();
    let status = lab
        .lab()
        .wait_for(&id, LONG, has(&[("failed", 1)]))
        .unwrap();
    assert_eq!(status["failed_by_class"]["install"], 1, "{status:#}");
    assert_eq!(packages(host), was);
    vendor.prove_whole(host).unwrap();
    let left = host.shell("pgrep -x 'sleep|dpkg|apt-get' || true").unwrap();
    assert_eq!(left, "");
}

#[test]
#[ignore = "needs root and real hosts"]
fn power_is_cut_at_every_state_of_a_package_change() {
    let lab = HostLab::new(HOSTS).unwrap();
    let trials = at_every_state(Cut::Power, soak(1, 3));
    run_trials(&lab, &Packages::default(), trials).unwrap();
}

#[test]
#[ignore = "needs root and real hosts"]
fn the_agent_is_killed_at_every_state_of_a_package_change() {
    let lab = HostLab::new(HOSTS).unwrap();
    let trials = at_every_state(Cut::Agent, soak(1, 3));
    run_trials(&lab, &Packages::default(), trials).unwrap();
}

#[test]
#[ignore = "needs root and real hosts"]
fn power_is_cut_at_random_instants_of_a_package_change_under_load() {
    let lab = HostLab::new(HOSTS).unwrap();
    put_under_load(&lab).unwrap();
    let trials = at_random_instants_of(&KINDS, Cut::Power, soak(6, 100));
    run_trials(&lab, &Packages::default(), trials).unwrap();
}

#[test]
#[ignore = "needs root and real hosts"]
fn the_agent_is_killed_at_random_instants_of_a_package_change_under_load() {
    let lab = HostLab::new(HOSTS).unwrap();
    put_under_load(&lab).unwrap();
    let trials = at_random_instants_of(&KINDS, Cut::Agent, soak(6, 100));
    run_trials(&lab, &Packages::default(), trials).unwrap();
}
