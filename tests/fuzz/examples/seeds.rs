//! Makes the seeds that are no text: bundles and messages. `cargo run --package comber-fuzz --example seeds`
//!
//! Run once when a format changes; the files are in the tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use comber_model::assignment::Desired;
use comber_model::wire::desired_to_wire;
use comber_model::{
    Action, AgentState, Artifact, Assignment, Digest, Facts, Failure, FailureClass, Generation,
    Grant, HostStatus, Installed, Nonce, Report, ReportResult,
};
use comber_proto::agent::v1 as wire;
use jiff::Timestamp;
use prost::Message as _;

fn corpus(target: &str, name: &str, bytes: &[u8]) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    fs::create_dir_all(&dir).expect("the tree is there");
    fs::write(dir.join(name), bytes).expect("the tree can be written");
}

fn with_kind(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind], bytes].concat()
}

fn main() {
    bundles();
    messages();
    for (n, seed) in comber_fuzz::metadata::seeds().iter().enumerate() {
        corpus("metadata", &format!("{n}.json"), seed);
    }
}

fn bundles() {
    let dir = std::env::temp_dir().join(format!("comber-seeds-{}", std::process::id()));
    let files = dir.join("files/bin");
    fs::create_dir_all(&files).expect("a temporary directory");
    let release = "name = \"webapp\"\nversion = \"2.4.1\"\n[installer]\ntype = \"archive\"\npath = \"/opt/webapp\"\n";
    fs::write(dir.join("release.toml"), release).expect("written");
    fs::write(files.join("app"), "#!/bin/sh\necho hello\n").expect("written");
    std::os::unix::fs::symlink("bin/app", dir.join("files/app")).expect("linked");
    let out: PathBuf = dir.join("out.bundle");
    comber_bundle::build(&dir, &out, &mut |_| {}).expect("it builds");
    let carried = fs::read(&out).expect("read");
    let tar = zstd::decode_all(carried.as_slice()).expect("a frame");
    corpus("bundle", "small.bundle", &with_kind(0, &carried));
    corpus("bundle", "small.tar", &with_kind(1, &tar));
    let end = tar[512..]
        .iter()
        .position(|byte| *byte == 0)
        .expect("padding");
    corpus("listing", "small.json", &tar[512..512 + end]);
    let next = (512 + end).next_multiple_of(512);
    let whole = [&tar[512..512 + end], &[0], &tar[next..]].concat();
    corpus("listing", "small.tar", &whole);
    fs::remove_dir_all(&dir).expect("removed");
}

fn messages() {
    let report = Report {
        number: 3,
        generation: Generation(41),
        rollout: "r7".parse().expect("a name"),
        release: "webapp@2.4.1".parse().expect("a name"),
        attempt: 1,
        result: ReportResult::RolledBack {
            failure: Failure::new(FailureClass::Health, "the page is missing"),
        },
        started_at: Timestamp::UNIX_EPOCH,
        finished_at: Timestamp::UNIX_EPOCH,
    };
    let status = HostStatus {
        generation: Generation(41),
        state: AgentState::AwaitingPermit,
        since: Timestamp::UNIX_EPOCH,
        attempt: None,
        installed: [(
            "webapp".parse().expect("a name"),
            Installed {
                version: "2.4.0".parse().expect("a version"),
                digest: Digest([3; 32]),
                previous: Some("2.3".parse().expect("a version")),
            },
        )]
        .into(),
        locally_bad: vec!["webapp@2.4.2".parse().expect("a name")],
        reports: vec![report.clone()],
        boot_id: "b".to_owned(),
        agent_version: "0.1.0".to_owned(),
    };
    let artifact = Artifact {
        digest: Digest([7; 32]),
        length: 1 << 20,
        carried_length: 1 << 19,
    };
    let desired = Desired {
        generation: Generation(41),
        assignment: Some(Assignment {
            rollout: "r7".parse().expect("a name"),
            release: "webapp@2.4.1".parse().expect("a name"),
            action: Action::Install { artifact },
            rolls_back: false,
            attempt: 2,
            retry_bad: true,
            disconnected: false,
        }),
        grant: Some(Grant {
            nonce: Nonce(99),
            granted_at: Timestamp::UNIX_EPOCH,
            ttl: Duration::from_secs(61),
        }),
        acknowledged: 12,
    };
    let change = wire::ReportPackagesRequest {
        change: Some(wire::PackageChange {
            base: vec![1; 32],
            result: vec![2; 32],
        }),
        removed: vec![],
        added: vec!["pkg:deb/debian/bash@5.2-1?arch=amd64".to_owned()],
    };
    let seeds = [
        wire::ActualState::from(&status).encode_to_vec(),
        desired_to_wire([5; 16], &desired).encode_to_vec(),
        wire::Report::from(report).encode_to_vec(),
        change.encode_to_vec(),
    ];
    for (kind, bytes) in (0_u8..).zip(seeds) {
        corpus("wire", &format!("{kind}.bin"), &with_kind(kind, &bytes));
    }
    let disks = [(
        "/".to_owned(),
        comber_model::facts::DiskFacts {
            total_bytes: 9,
            free_bytes: 8,
        },
    )];
    let facts = Facts {
        disks: disks.into(),
        hostname: "web-01".to_owned(),
        failed_units: vec!["a.service".to_owned()],
        booted_at: Some(Timestamp::UNIX_EPOCH),
        ..Facts::default()
    };
    corpus(
        "facts",
        "full.bin",
        &wire::Facts::from(&facts).encode_to_vec(),
    );
}
