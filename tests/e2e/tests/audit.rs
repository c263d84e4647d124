//! The audit log of a real controller: it goes on over a `kill -9`, and verifies from the outside.

use std::fs;

use comber_test_support::Lab;
use serde_json::Value;

#[expect(clippy::unwrap_used, reason = "a test that cannot read has failed")]
fn head(lab: &Lab, arguments: &[&str]) -> (u64, String) {
    let verify = [&["audit", "verify"], arguments].concat();
    let told = lab.comber().json(&verify).unwrap();
    let head = told["head"].as_str().unwrap().to_owned();
    (told["entries"].as_u64().unwrap(), head)
}

#[expect(clippy::unwrap_used, reason = "a test that cannot read has failed")]
fn entries(lab: &Lab) -> Vec<Value> {
    let all = ["audit", "list", "--last", "0", "--output", "json"];
    let text = lab.comber().ok(&all).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_log_goes_on_after_a_kill_and_verifies_from_an_earlier_head() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 1, &[]).unwrap();
    let label = |lab: &Lab, label: &str| {
        lab.comber().ok(&["host", "label", "h1", label]).unwrap();
    };
    label(&lab, "rack=1");
    let (before, earlier) = head(&lab, &[]);
    lab.kill_controller();
    lab.start_controller().unwrap();
    label(&lab, "rack=2");
    let (after, _) = head(&lab, &["--head", &earlier]);
    assert!(after > before, "{after} entries after {before}");

    let told = entries(&lab);
    let numbers: Vec<u64> = told.iter().filter_map(|e| e["number"].as_u64()).collect();
    let first = numbers[0];
    assert!(
        numbers
            .iter()
            .copied()
            .eq(first..first + numbers.len() as u64),
        "an entry is missing: {numbers:?}"
    );
    let labels: Vec<String> = told
        .iter()
        .filter(|entry| {
            entry["object"] == "host h1" && entry["action"].to_string().contains("LabelHosts")
        })
        .map(|entry| {
            format!(
                "{} {} {}",
                entry["actor"]["name"], entry["before"], entry["after"]
            )
        })
        .collect();
    assert_eq!(labels.len(), 2, "{told:#?}");
    assert!(labels[1].contains("ada"), "{labels:?}");
    assert!(
        labels[1].contains('1') && labels[1].contains('2'),
        "{labels:?}"
    );

    // A copy elsewhere is what shows that somebody with the controller's disk changed it.
    let copy = lab.directory().join("audit.jsonl");
    let exported = lab.comber().ok(&["audit", "export"]).unwrap();
    fs::write(&copy, &exported).unwrap();
    let file = copy.to_string_lossy().into_owned();
    assert!(head(&lab, &["--file", &file]).0 >= after);
    fs::write(&copy, exported.replacen("rack", "rock", 1)).unwrap();
    let changed = lab
        .comber()
        .run(&["audit", "verify", "--file", &file])
        .unwrap();
    assert_eq!(changed.code, 1, "{}{}", changed.stdout, changed.stderr);
}
