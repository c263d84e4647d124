//! Bad input: each mistake gets a clear error that names the field and the remedy, and changes nothing.

use std::fs;
use std::path::Path;

use comber_e2e::{LONG, all_at_once, has};
use comber_test_support::{AgentOptions, Lab, LabOptions, Product, SmallDisk, wait};

/// Runs `comber` with these arguments; it must fail and name each of these words, and leave no rollout and no release
/// beside those that were there.
#[track_caller]
#[expect(clippy::unwrap_used, reason = "a test that cannot ask has failed")]
fn refused(lab: &Lab, arguments: &[&str], words: &[&str]) {
    let count = || {
        let rollouts = lab.comber().json(&["rollout", "list"]).unwrap();
        let releases = lab.comber().json(&["release", "list"]).unwrap();
        let length = |value: &serde_json::Value| value.as_array().map_or(0, Vec::len);
        (length(&rollouts["rollouts"]), length(&releases["releases"]))
    };
    let before = count();
    let ran = lab.comber().run(arguments).unwrap();
    assert_ne!(
        ran.code, 0,
        "comber {arguments:?} was accepted: {}",
        ran.stdout
    );
    for word in words {
        assert!(
            ran.stderr.contains(word),
            "comber {arguments:?} does not say {word:?}:\n{}",
            ran.stderr
        );
    }
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    assert_eq!(count(), before, "comber {arguments:?} changed something");
}

#[expect(clippy::unwrap_used, reason = "a test that cannot write has failed")]
fn write(lab: &Lab, name: &str, text: &str) -> String {
    let path = lab.directory().join(name);
    fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}

#[test]
fn a_bad_rollout_file_is_told_field_by_field() {
    let lab = Lab::new().unwrap();
    lab.publish(&Product::good("1")).unwrap();
    let good = all_at_once("1");
    let cases: [(&str, String, &[&str]); 6] = [
        (
            "unknown key",
            format!("realease = \"x\"\n{good}"),
            &["realease", "line 1"],
        ),
        (
            "wrong type",
            good.replace("\"rest\"", "true"),
            &["hosts", "a number such as 5"],
        ),
        (
            "impossible wave",
            good.replace("\"rest\"", "3"),
            &["wave[0].hosts", "\"rest\""],
        ),
        (
            "empty wave",
            good.replace("hosts = \"rest\"", "hosts = 0\n[[wave]]\nhosts = \"rest\""),
            &["wave[0].hosts", "is 0"],
        ),
        (
            "missing release",
            good.replace("app@1", "app@9"),
            &["release", "app@9", "not published"],
        ),
        (
            "unknown fact",
            good.replace("\"true\"", "'facts.kernal == \"6\"'"),
            &["selector", "did you mean facts.kernel"],
        ),
    ];
    for (name, text, words) in cases {
        let file = write(&lab, &format!("{}.toml", name.replace(' ', "-")), &text);
        refused(&lab, &["rollout", "create", &file], words);
        refused(&lab, &["rollout", "plan", &file], words);
    }
    refused(&lab, &["rollout", "start", "r99"], &["r99"]);
    refused(
        &lab,
        &["rollout", "create", "/nowhere.toml"],
        &["/nowhere.toml"],
    );
}

#[test]
fn a_rollout_that_selects_nobody_says_so_before_it_starts() {
    let lab = Lab::new().unwrap();
    lab.publish(&Product::good("1")).unwrap();
    let file = write(&lab, "none.toml", &all_at_once("1"));
    refused(&lab, &["rollout", "plan", &file], &["selector"]);
}

#[test]
fn a_truncated_or_altered_bundle_is_refused() {
    let lab = Lab::new().unwrap();
    lab.publish(&Product::good("1")).unwrap();
    let directory = lab.directory().join("two");
    Product::good("2").write(&directory).unwrap();
    let bundle = lab.directory().join("two.comber");
    let (from, to) = (directory.to_string_lossy(), bundle.to_string_lossy());
    lab.comber()
        .ok(&["release", "build", &from, "--out", &to])
        .unwrap();
    let bytes = fs::read(&bundle).unwrap();
    fs::write(&bundle, &bytes[..bytes.len() - 7]).unwrap();
    refused(&lab, &["release", "publish", &to], &["two.comber"]);
    let mut altered = bytes.clone();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    fs::write(&bundle, &altered).unwrap();
    refused(&lab, &["release", "publish", &to], &["two.comber"]);
    fs::write(&bundle, &bytes).unwrap();
    lab.comber().ok(&["release", "publish", &to]).unwrap();
    // Other bytes under the same name and version.
    fs::write(directory.join("files/version"), "other").unwrap();
    lab.comber()
        .ok(&["release", "build", &from, "--out", &to])
        .unwrap();
    refused(&lab, &["release", "publish", &to], &["app@2", "version"]);
}

#[test]
fn a_bad_manifest_is_told_field_by_field() {
    let lab = Lab::new().unwrap();
    let directory = lab.directory().join("bad");
    Product::good("1").write(&directory).unwrap();
    let manifest = directory.join("release.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let from = directory.to_string_lossy();
    fs::write(
        &manifest,
        text.replace("[installer]", "sevrity = \"low\"\n[installer]"),
    )
    .unwrap();
    refused(&lab, &["release", "build", &from], &["sevrity"]);
    fs::write(&manifest, text.replace("\"/app\"", "\"../app\"")).unwrap();
    refused(
        &lab,
        &["release", "build", &from],
        &["installer.path", "absolute"],
    );
}

#[test]
fn altered_bytes_on_the_controllers_disk_reach_no_host() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 1, &[]).unwrap();
    lab.publish(&Product::good("1")).unwrap();
    let artifacts = lab.directory().join("controller/artifacts");
    let altered = alter(&artifacts);
    assert_eq!(altered, 1, "one artifact is there");
    let spec = all_at_once("1").replace("[[wave]]", "[retry]\nclasses = {}\n[[wave]]");
    let id = lab.roll_out(&spec).unwrap();
    lab.wait_for(&id, LONG, has(&[("failed", 1)])).unwrap();
    let hosts = lab.comber().json(&["rollout", "hosts", &id]).unwrap();
    let reason = hosts["members"][0]["reason"].as_str().unwrap();
    assert!(["trust", "fetch"].contains(&reason), "{hosts:#}");
    assert_eq!(lab.running("h1"), None);
}

/// Flips one bit in the middle of each file of some size below a directory; gives how many.
#[expect(
    clippy::unwrap_used,
    reason = "a test that cannot alter a file has failed"
)]
fn alter(directory: &Path) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            count += alter(&path);
        } else {
            let mut bytes = fs::read(&path).unwrap();
            if bytes.len() > 100 {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(&path, bytes).unwrap();
                count += 1;
            }
        }
    }
    count
}

#[test]
fn a_token_used_twice_and_one_that_is_over_are_refused() {
    let lab = Lab::new().unwrap();
    let token = lab.token(&["--uses", "1"]).unwrap();
    lab.enrol("h1", &token, &AgentOptions::default()).unwrap();
    let again = lab
        .enrol("h2", &token, &AgentOptions::default())
        .unwrap_err()
        .to_string();
    assert!(
        again.contains("used up") && again.contains("comber token create"),
        "{again}"
    );
    let short = lab.token(&["--ttl", "1s"]).unwrap();
    let over = wait::until(LONG, || {
        let result = lab.enrol("h3", &short, &AgentOptions::default());
        result.err().map(|error| error.to_string())
    });
    // It may have been in time once; the token has one use.
    let over = over.unwrap();
    assert!(
        over.contains("ended at") || over.contains("used up"),
        "{over}"
    );
    let patterned = lab.token(&["--name-pattern", "web-*"]).unwrap();
    let other = lab
        .enrol("db-1", &patterned, &AgentOptions::default())
        .unwrap_err()
        .to_string();
    assert!(other.contains("web-*"), "{other}");
    let hosts = lab.comber().json(&["host", "list"]).unwrap();
    let names: Vec<&str> = hosts["hosts"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|h| h["id"].as_str())
        .collect();
    assert!(
        !names.contains(&"h2") && !names.contains(&"db-1"),
        "{names:?}"
    );
}

#[test]
fn an_expired_certificate_is_refused_with_the_remedy() {
    let options = LabOptions {
        controller: "[certificates]\noperator_ttl = \"3s\"\n".to_owned(),
        ..LabOptions::default()
    };
    let lab = Lab::with(&options).unwrap();
    let told = wait::until(LONG, || {
        let ran = lab.comber().run(&["host", "list"]).ok()?;
        (ran.code != 0).then_some(ran.stderr)
    });
    let told = told.expect("the certificate is accepted for ever");
    assert!(
        told.contains("expired") && told.contains("comber init"),
        "{told}"
    );
}

#[test]
fn a_retired_host_is_cut_off() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 1, &[]).unwrap();
    let connected = |expected: bool| {
        wait::until(LONG, || {
            let hosts = lab.comber().json(&["host", "list", "--retired"]).ok()?;
            (hosts["hosts"][0]["connected"] == expected).then_some(())
        })
    };
    assert!(connected(true).is_some(), "the host does not connect");
    lab.comber().ok(&["host", "retire", "h1", "--yes"]).unwrap();
    assert!(connected(false).is_some(), "the host stays connected");
}

/// Random bytes: they do not compress, so that the disk really fills.
#[expect(clippy::unwrap_used, reason = "a test that cannot write has failed")]
fn large_product(lab: &Lab, version: &str, megabytes: usize) -> String {
    let directory = lab.directory().join(format!("large-{version}"));
    Product::good(version).write(&directory).unwrap();
    let mut bytes = vec![0; megabytes << 20];
    getrandom::fill(&mut bytes).unwrap();
    fs::write(directory.join("files/data"), bytes).unwrap();
    let bundle = lab.directory().join(format!("large-{version}.comber"));
    let (from, to) = (
        directory.to_string_lossy(),
        bundle.to_string_lossy().into_owned(),
    );
    lab.comber()
        .ok(&["release", "build", &from, "--out", &to])
        .unwrap();
    to
}

#[test]
fn a_full_disk_at_the_controller_is_told_and_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(&home.path().join("controller"), 96) else {
        return;
    };
    let directory = Some(home.path().to_owned());
    let lab = Lab::with(&LabOptions {
        directory,
        ..LabOptions::default()
    })
    .unwrap();
    lab.publish(&Product::good("1")).unwrap();
    let bundle = large_product(&lab, "2", 120);
    refused(&lab, &["release", "publish", &bundle], &["space"]);
    // Everything else goes on.
    lab.publish(&Product::good("3")).unwrap();
}

#[test]
fn a_full_disk_at_a_host_is_found_before_anything_changes() {
    let mut lab = Lab::new().unwrap();
    let Some(_disk) = SmallDisk::mount(&lab.host("h1"), 24) else {
        return;
    };
    lab.start_agents("h", 1, &[]).unwrap();
    lab.publish(&Product::good("1")).unwrap();
    let first = lab.roll_out(&all_at_once("1")).unwrap();
    lab.wait_for(&first, LONG, has(&[("succeeded", 1)]))
        .unwrap();
    let bundle = large_product(&lab, "2", 20);
    lab.comber().ok(&["release", "publish", &bundle]).unwrap();
    let id = lab.roll_out(&all_at_once("2")).unwrap();
    lab.wait_for(&id, LONG, has(&[("failed", 1)])).unwrap();
    let hosts = lab.comber().json(&["rollout", "hosts", &id]).unwrap();
    assert_eq!(hosts["members"][0]["reason"], "preflight", "{hosts:#}");
    let detail = hosts["members"][0]["detail"].as_str().unwrap();
    assert!(
        detail.contains("MiB") || detail.contains("bytes"),
        "no numbers: {detail}"
    );
    assert_eq!(lab.running("h1").as_deref(), Some("1"));
}
