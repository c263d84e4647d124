//! The module installer with real modules: small shell scripts that write down how they are called.

mod crash;
mod evil;
mod streams;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::install::{Kind, Site};
use crate::testing::{TestHost, record_of};

/// Writes down its first argument, then does what the test left for that call.
const MODULE: &str = r#"#!/bin/sh
echo "$1" >>"$LOG"
dir=$(dirname "$0")
if [ -f "$dir/do-$1" ]; then . "$dir/do-$1"; fi
exit 0
"#;

/// What every change begins with.
const FORWARD: [&str; 5] = [
    "ProvidePayloadFileSizes",
    "Download",
    "SupportsRollback",
    "ArtifactInstall",
    "NeedsArtifactReboot",
];

struct Fixture {
    host: TestHost,
}

impl Fixture {
    /// A host with the module `m`, which knows a way back.
    fn new() -> Self {
        let host = TestHost::new();
        fs::create_dir(host.dir().join("modules")).unwrap();
        let fixture = Self { host };
        fixture.write("m", MODULE);
        fixture.does("SupportsRollback", "echo Yes");
        fixture
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.host.dir().join("modules").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What the module does when it is called so.
    fn does(&self, call: &str, script: &str) {
        self.write(&format!("do-{call}"), script);
    }

    fn site(&self) -> Site {
        site_at(self.host.dir())
    }

    async fn staged(&self, version: &str, release: &str, recipe: &str) -> (Record, Kind) {
        let files: [(&str, &[u8]); 2] = [("a", b"first"), ("b", version.as_bytes())];
        self.staged_with(version, release, recipe, &files).await
    }

    async fn staged_with(
        &self,
        version: &str,
        release: &str,
        recipe: &str,
        files: &[(&str, &[u8])],
    ) -> (Record, Kind) {
        let verified = self.host.module_release(version, release, recipe, files);
        let record = record_of(&verified);
        let module = self.site().installer(&record);
        module.stage(verified).await.unwrap();
        (record, module)
    }

    /// A version that is kept, so that there is something to go back to.
    async fn with_old(&self) -> Record {
        let (old, module) = self.staged("1.0", "", "").await;
        module.activate(None).await.unwrap();
        module.commit().await.unwrap();
        module.cleanup(&[]).await.unwrap();
        self.host.clear_log();
        old
    }

    fn product(&self) -> PathBuf {
        self.host.state().join("shelves/webapp")
    }

    fn tree(&self) -> PathBuf {
        self.product().join("module/tree")
    }

    fn is_over(&self) -> bool {
        let dir = self.product().join("module");
        !dir.join("session.json").exists() && !dir.join("tree").exists()
    }
}

/// As the agent has it, but a module that does not want to end is not waited for as long.
fn site_at(dir: &std::path::Path) -> Site {
    let mut site = crate::testing::site_at(dir);
    site.exec = site.exec.with_grace(Duration::from_millis(200));
    site
}

fn forward_and(more: &[&str]) -> Vec<String> {
    let all = FORWARD.iter().chain(more);
    all.map(|call| (*call).to_owned()).collect()
}

fn active(module: &Kind) -> Option<Record> {
    match module.detect().unwrap() {
        Current::Release(record) => Some(*record),
        Current::Nothing => None,
        Current::Foreign(path) => panic!("{}", path.display()),
    }
}

fn told(error: &InstallError) -> String {
    comber_runtime::telemetry::error_chain(error)
}

#[tokio::test]
async fn a_release_goes_through_the_calls_of_the_contract() {
    let fixture = Fixture::new();
    let old = fixture.with_old().await;
    fixture.does(
        "ArtifactInstall",
        "cp -r . \"$dir/seen\"; pwd >\"$dir/where\"; echo \"$2 $#\" >\"$dir/told\"; echo mine >tmp/mine",
    );
    let metadata = "metadata = { port = 80 }";
    let (new, module) = fixture.staged("2.0", "", metadata).await;
    assert_eq!(module.preflight(Some(&old)).await.unwrap(), Fit::Fits);
    assert_eq!(fixture.host.log(), Vec::<String>::new());
    let activation = module.activate(Some(&old)).await.unwrap();
    assert_eq!(activation, Activation::default());
    assert_eq!(fixture.host.log(), FORWARD);
    assert_eq!(active(&module), Some(new));

    let modules = fixture.host.dir().join("modules");
    let read = |name: &str| fs::read_to_string(modules.join(name)).unwrap();
    let tree = fixture.tree().display().to_string();
    assert_eq!(read("where"), format!("{tree}\n"));
    assert_eq!(read("told"), format!("{tree} 2\n"));
    assert_eq!(read("seen/files/a"), "first");
    assert_eq!(read("seen/files/b"), "2.0");
    assert_eq!(read("seen/current_artifact_name"), "webapp@1.0\n");
    assert_eq!(read("seen/header/artifact_name"), "webapp@2.0");
    assert_eq!(read("seen/header/meta-data"), "{\n  \"port\": 80\n}");
    assert!(!modules.join("seen/stream-next").exists());
    assert!(!modules.join("seen/streams").exists());

    // What the module wrote is there until the end.
    module.prove().await.unwrap();
    module.commit().await.unwrap();
    assert_eq!(
        fs::read_to_string(fixture.tree().join("tmp/mine")).unwrap(),
        "mine\n"
    );
    module.cleanup(&["1.0".parse().unwrap()]).await.unwrap();
    assert_eq!(
        fixture.host.log(),
        forward_and(&["ArtifactCommit", "Cleanup"])
    );
    assert!(fixture.is_over());
    // Each again changes nothing.
    module.prove().await.unwrap();
    module.commit().await.unwrap();
    module.cleanup(&["1.0".parse().unwrap()]).await.unwrap();
    assert_eq!(fixture.host.log().len(), 7);
}

#[tokio::test]
async fn a_failure_of_each_state_takes_the_contracts_way_back() {
    let back = [
        "SupportsRollback",
        "ArtifactRollback",
        "ArtifactFailure",
        "Cleanup",
    ];
    for (fails, expected) in [
        (
            "ProvidePayloadFileSizes",
            vec!["ProvidePayloadFileSizes", "Cleanup"],
        ),
        (
            "Download",
            vec!["ProvidePayloadFileSizes", "Download", "Cleanup"],
        ),
        ("ArtifactInstall", [&FORWARD[..4], &back].concat()),
        ("NeedsArtifactReboot", [&FORWARD[..], &back].concat()),
        (
            "ArtifactCommit",
            [&FORWARD[..], &["ArtifactCommit"], &back].concat(),
        ),
    ] {
        let fixture = Fixture::new();
        let old = fixture.with_old().await;
        fixture.does(fails, "echo 'no room' >&2; exit 3");
        let (_, module) = fixture.staged("2.0", "", "").await;
        let activated = module.activate(Some(&old)).await.map(drop);
        let done = match activated {
            Ok(()) => module.commit().await,
            failed => failed,
        };
        let error = told(&done.unwrap_err());
        assert!(
            error.contains(&format!("the module m failed in {fails}: "))
                && error.contains("ended with exit status: 3; its output ends: no room"),
            "{error}"
        );
        module.roll_back(Some(&old)).await.unwrap();
        assert_eq!(fixture.host.log(), expected, "{fails}");
        assert_eq!(active(&module), Some(old.clone()), "{fails}");
        assert!(fixture.is_over(), "{fails}");
        // Again is harmless.
        module.roll_back(Some(&old)).await.unwrap();
        assert_eq!(fixture.host.log(), expected, "{fails}");
    }
}

#[tokio::test]
async fn checks_that_fail_take_the_way_back_from_an_installed_release() {
    let fixture = Fixture::new();
    let (_, module) = fixture.staged("1.0", "", "").await;
    module.activate(None).await.unwrap();
    module.roll_back(None).await.unwrap();
    let back = [
        "SupportsRollback",
        "ArtifactRollback",
        "ArtifactFailure",
        "Cleanup",
    ];
    assert_eq!(fixture.host.log(), forward_and(&back));
    assert_eq!(active(&module), None);
    assert!(fixture.is_over());
}

#[tokio::test]
async fn a_release_that_was_made_final_and_not_kept_goes_back_too() {
    let fixture = Fixture::new();
    let old = fixture.with_old().await;
    let (_, module) = fixture.staged("2.0", "", "").await;
    module.activate(Some(&old)).await.unwrap();
    module.commit().await.unwrap();
    module.roll_back(Some(&old)).await.unwrap();
    let back = [
        "ArtifactCommit",
        "SupportsRollback",
        "ArtifactRollback",
        "ArtifactFailure",
        "Cleanup",
    ];
    assert_eq!(fixture.host.log(), forward_and(&back));
    assert_eq!(active(&module), Some(old));
}

#[tokio::test]
async fn a_module_without_a_way_back_leaves_a_lost_host_and_says_so() {
    let fixture = Fixture::new();
    let old = fixture.with_old().await;
    fixture.does("SupportsRollback", "");
    fixture.does("ArtifactInstall", "exit 1");
    let (_, module) = fixture.staged("2.0", "", "").await;
    module.activate(Some(&old)).await.unwrap_err();
    for _ in 0..2 {
        // Also after a crash it is not called back.
        let error = module.roll_back(Some(&old)).await.unwrap_err();
        assert!(
            told(&error).starts_with("the module m knows no way back"),
            "{error}"
        );
    }
    let expected = [
        &FORWARD[..4],
        &["SupportsRollback", "ArtifactFailure", "Cleanup"],
    ]
    .concat();
    assert_eq!(fixture.host.log(), expected);
    assert!(!fixture.tree().exists());
    // Somebody tries again, and it works.
    fixture.does("ArtifactInstall", "");
    fixture.host.clear_log();
    module.activate(Some(&old)).await.unwrap();
    module.commit().await.unwrap();
    module.cleanup(&[]).await.unwrap();
    assert_eq!(
        fixture.host.log(),
        forward_and(&["ArtifactCommit", "Cleanup"])
    );
    assert!(fixture.is_over());
}

#[tokio::test]
async fn without_a_way_back_a_download_that_fails_loses_nothing() {
    let fixture = Fixture::new();
    fixture.does("SupportsRollback", "");
    fixture.does("Download", "exit 1");
    let (_, module) = fixture.staged("1.0", "", "").await;
    module.activate(None).await.unwrap_err();
    module.roll_back(None).await.unwrap();
    assert!(fixture.is_over());
}

#[tokio::test]
async fn a_way_back_that_fails_is_told_with_its_reason() {
    let fixture = Fixture::new();
    let old = fixture.with_old().await;
    fixture.does("ArtifactRollback", "echo 'the copy is gone'; exit 2");
    let (new, module) = fixture.staged("2.0", "", "").await;
    module.activate(Some(&old)).await.unwrap();
    let error = module.roll_back(Some(&old)).await.unwrap_err();
    assert!(
        told(&error).contains("failed in ArtifactRollback"),
        "{error}"
    );
    assert!(told(&error).ends_with("the copy is gone"), "{error}");
    let log = fixture.host.log();
    assert_eq!(log[log.len() - 2..], ["ArtifactFailure", "Cleanup"]);
    // Nobody knows what is active, so nothing else is claimed.
    assert_eq!(active(&module), Some(new));
}

#[tokio::test]
async fn an_irreversible_release_gets_its_last_calls_with_its_failure() {
    let fixture = Fixture::new();
    fixture.does("ArtifactInstall", "exit 1");
    let (_, module) = fixture.staged("1.0", "irreversible = true", "").await;
    module.activate(None).await.unwrap_err();
    let expected = [&FORWARD[..4], &["ArtifactFailure", "Cleanup"]].concat();
    assert_eq!(fixture.host.log(), expected);
    fixture.does("ArtifactInstall", "");
    module.activate(None).await.unwrap();
}

#[tokio::test]
async fn a_reboot_is_asked_for_verified_and_undone() {
    for (answer, forward, back) in [
        (
            "Yes",
            Some("ArtifactReboot"),
            Some("ArtifactRollbackReboot"),
        ),
        ("Automatic", None, None),
    ] {
        let fixture = Fixture::new();
        let old = fixture.with_old().await;
        fixture.does("NeedsArtifactReboot", &format!("echo {answer}"));
        let (_, module) = fixture.staged("2.0", "reboot = \"auto\"", "").await;
        let activation = module.activate(Some(&old)).await.unwrap();
        assert!(activation.needs_reboot);
        // The host's own reboot follows in any case.
        assert!(!module.reboot().await.unwrap());
        // And once more, where that one was refused at first.
        assert!(!module.reboot().await.unwrap());
        module.prove().await.unwrap();
        module.prove().await.unwrap();
        let mut expected = FORWARD.to_vec();
        expected.extend(forward);
        expected.push("ArtifactVerifyReboot");
        assert_eq!(fixture.host.log(), expected);

        // The checks fail after the boot.
        module.roll_back(Some(&old)).await.unwrap();
        expected.extend(["SupportsRollback", "ArtifactRollback"]);
        assert_eq!(fixture.host.log(), expected);
        assert_eq!(active(&module), Some(old.clone()));
        assert!(!module.reboot().await.unwrap());
        module.prove_back().await.unwrap();
        module.cleanup(&["1.0".parse().unwrap()]).await.unwrap();
        expected.extend(back);
        expected.extend(["ArtifactVerifyRollbackReboot", "ArtifactFailure", "Cleanup"]);
        assert_eq!(fixture.host.log(), expected);
        assert!(fixture.is_over());
    }
}

#[tokio::test]
async fn a_boot_that_does_not_lead_back_is_told() {
    let fixture = Fixture::new();
    let old = fixture.with_old().await;
    fixture.does("NeedsArtifactReboot", "echo Automatic");
    fixture.does("ArtifactVerifyRollbackReboot", "echo 'still on B'; exit 1");
    let (_, module) = fixture.staged("2.0", "reboot = \"auto\"", "").await;
    module.activate(Some(&old)).await.unwrap();
    module.reboot().await.unwrap();
    module.roll_back(Some(&old)).await.unwrap();
    module.reboot().await.unwrap();
    let error = module.prove_back().await.unwrap_err();
    assert!(told(&error).ends_with("still on B"), "{error}");
}

#[tokio::test]
async fn a_reboot_that_the_release_rules_out_fails_it() {
    let fixture = Fixture::new();
    fixture.does("NeedsArtifactReboot", "echo Automatic");
    let (_, module) = fixture.staged("1.0", "", "").await;
    let error = module.activate(None).await.unwrap_err();
    assert!(told(&error).contains("says reboot = \"never\""), "{error}");
    module.roll_back(None).await.unwrap();
    assert_eq!(active(&module), None);
}

#[tokio::test]
async fn a_reboot_that_the_release_wants_counts_as_asked_for() {
    let fixture = Fixture::new();
    let (_, module) = fixture.staged("1.0", "reboot = \"required\"", "").await;
    assert!(module.activate(None).await.unwrap().needs_reboot);
    module.reboot().await.unwrap();
    module.prove().await.unwrap();
    assert_eq!(fixture.host.log(), forward_and(&["ArtifactVerifyReboot"]));
}

#[tokio::test]
async fn a_release_may_carry_its_own_module() {
    let fixture = Fixture::new();
    let own = MODULE.replace("\"$1\"", "\"own $1\"");
    let files: [(&str, &[u8]); 2] = [("bin/module", own.as_bytes()), ("a", b"x")];
    let (_, module) = fixture
        .staged_with("1.0", "", "carried = \"bin/module\"", &files)
        .await;
    module.preflight(None).await.unwrap();
    module.activate(None).await.unwrap();
    assert_eq!(fixture.host.log()[0], "own ProvidePayloadFileSizes");
    let files: Vec<_> = fs::read_dir(fixture.tree().join("files"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(files, ["a"]);
}

#[tokio::test]
async fn a_host_that_cannot_is_told_before_anything_is_changed() {
    let fixture = Fixture::new();
    let (_, module) = fixture.staged("1.0", "", "").await;
    fs::remove_file(fixture.host.dir().join("modules/m")).unwrap();
    let error = module.preflight(None).await.unwrap_err();
    assert!(
        error.to_string().starts_with("no module m is in "),
        "{error}"
    );
    fixture.write("m", MODULE);
    let path = fixture.host.dir().join("modules/m");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let error = module.preflight(None).await.unwrap_err();
    assert!(
        error.to_string().contains("others than root can write"),
        "{error}"
    );
    fixture.write("m", MODULE);
    let files: [(&str, &[u8]); 1] = [("dir/a", b"x")];
    let (_, nested) = fixture.staged_with("2.0", "", "", &files).await;
    let error = nested.preflight(None).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("\"dir\" is a directory or a link"),
        "{error}"
    );
    let (_, without) = fixture.staged("3.0", "", "carried = \"a\"").await;
    let error = without.preflight(None).await.unwrap_err();
    assert!(
        error.to_string().contains("no executable file there"),
        "{error}"
    );
    let mut other = record_of(&fixture.host.release("0.9"));
    other.manifest.name = "webapp".parse().unwrap();
    let error = module.preflight(Some(&other)).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("installed by the installer archive"),
        "{error}"
    );
    assert_eq!(fixture.host.log(), Vec::<String>::new());
}

#[tokio::test]
async fn what_was_installed_cannot_be_claimed_to_be_removed() {
    let fixture = Fixture::new();
    let old = fixture.with_old().await;
    let module = fixture.site().installer(&old);
    let error = module.remove().await.unwrap_err();
    assert!(error.to_string().contains("knows no removal"), "{error}");
    module.roll_back(Some(&old)).await.unwrap();
    assert_eq!(active(&module), Some(old));
}
