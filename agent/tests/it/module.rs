//! The binary with a module: killed in the middle of each of its calls, and with modules that mean harm.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use comber_bundle::build;
use comber_model::{Action, Assignment};
use comber_proto::agent::v1::{FailureClass, Report, ReportResult};

use crate::{
    controller::{Plan, TestController},
    host::Host,
};

/// Writes down how it is called. In the call that the test names it stays, the first time, without an end.
const MODULE: &str = r#"#!/bin/sh
echo "$1" >>"$TEST_DIR/calls"
if [ "$1" = SupportsRollback ]; then echo Yes; fi
if [ "$(cat "$TEST_DIR/stay" 2>/dev/null)" = "$1" ] && [ ! -e "$TEST_DIR/stayed" ]; then
    touch "$TEST_DIR/stayed"
    exec sleep 1000
fi
if [ -e "$TEST_DIR/do-$1" ]; then . "$TEST_DIR/do-$1"; fi
exit 0
"#;

struct World {
    controller: TestController,
    host: Host,
    generation: u64,
    /// Of each call: long, but where one hangs.
    timeout: &'static str,
}

impl World {
    /// A host on `app@1`, by its module.
    async fn new() -> Self {
        let controller = TestController::start().await;
        let mut host = Host::enrolled(&controller).await;
        let module = host.path("modules/m");
        fs::create_dir(module.parent().unwrap()).unwrap();
        fs::write(&module, MODULE).unwrap();
        fs::set_permissions(module, fs::Permissions::from_mode(0o755)).unwrap();
        host.start();
        let mut world = Self {
            controller,
            host,
            generation: 0,
            timeout: "2m",
        };
        world.plan("1");
        assert_eq!(result(&world.report().await), ReportResult::Committed);
        world
    }

    /// Wants that version from now on.
    fn plan(&mut self, version: &str) {
        let assignment = self.published(version);
        self.generation += 1;
        self.controller.plan(Plan {
            generation: self.generation,
            assignment: Some(assignment),
            permits: true,
            acknowledges: true,
        });
    }

    fn published(&self, version: &str) -> Assignment {
        let dir = tempfile::tempdir().unwrap();
        let timeout = self.timeout;
        let manifest = format!(
            "name = 'app'\nversion = '{version}'\n[installer]\ntype = 'module'\nmodule = 'm'\ntimeout = '{timeout}'\n"
        );
        fs::write(dir.path().join("release.toml"), manifest).unwrap();
        fs::create_dir(dir.path().join("files")).unwrap();
        fs::write(dir.path().join("files/page"), version).unwrap();
        let out = dir.path().join("app.bundle");
        let built = build(dir.path(), &out, &mut |_| {}).unwrap();
        let bytes = fs::read(&out).unwrap();
        let digest = built.artifact.digest.to_string();
        self.controller.publish_artifact(&digest, bytes);
        let id = built.listing.manifest().id();
        let vendor = &self.controller.shared.vendor;
        vendor.list(&out, &built.artifact, &id);
        Assignment {
            rollout: "r1".parse().unwrap(),
            release: format!("app@{version}").parse().unwrap(),
            action: Action::Install {
                artifact: built.artifact,
            },
            rolls_back: false,
            attempt: 1,
            retry_bad: false,
            disconnected: false,
        }
    }

    /// What the host reports of the plan.
    async fn report(&self) -> Report {
        let generation = self.generation;
        let of_plan = move |report: &&Report| report.generation == generation;
        let heard = self.controller.heard("the report", 0, move |actual| {
            actual.reports.iter().any(|report| of_plan(&report))
        });
        let heard = heard.await;
        heard.reports.iter().find(of_plan).unwrap().clone()
    }

    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.host.path("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn active(&self) -> String {
        let path = "state/shelves/app/current/page";
        fs::read_to_string(self.host.path(path)).unwrap()
    }

    fn count(&self, call: &str) -> usize {
        self.calls().iter().filter(|one| *one == call).count()
    }

    /// Waits until nothing of the change is left.
    async fn settles(&self) {
        let session = self.host.path("state/shelves/app/module/session.json");
        self.host.becomes("settled", |_| !session.exists()).await;
    }
}

fn result(report: &Report) -> ReportResult {
    report.result.try_into().unwrap()
}

#[tokio::test]
async fn a_kill_of_the_agent_in_each_call_ends_kept_or_undone_and_truthfully_told() {
    use ReportResult::{Committed, RolledBack};
    let mut world = World::new().await;
    world.settles().await;
    let mut active = "1".to_owned();
    for (number, (call, ends)) in [
        ("ProvidePayloadFileSizes", Committed),
        ("Download", Committed),
        ("SupportsRollback", Committed),
        ("ArtifactInstall", RolledBack),
        ("NeedsArtifactReboot", RolledBack),
        ("ArtifactCommit", RolledBack),
        ("Cleanup", Committed),
    ]
    .into_iter()
    .enumerate()
    {
        let version = (number + 2).to_string();
        for file in ["calls", "stayed"] {
            let _ = fs::remove_file(world.host.path(file));
        }
        fs::write(world.host.path("stay"), call).unwrap();
        world.plan(&version);
        world.host.exists("stayed").await;
        world.host.kill().await;
        world.host.start();
        let report = world.report().await;
        assert_eq!(result(&report), ends, "{call}: {report:?}");
        world.settles().await;
        let log = world.calls();
        if ends == Committed {
            active = version;
        } else {
            let failure = report.failure.unwrap();
            assert!(
                failure.detail.contains(&format!("{call} was cut off")),
                "{failure:?}"
            );
            assert_eq!(world.count("ArtifactRollback"), 1, "{call}: {log:?}");
        }
        assert_eq!(world.active(), active, "{call}");
        assert_eq!(world.count("ArtifactInstall"), 1, "{call}: {log:?}");
        assert!(world.count("ArtifactCommit") <= 1, "{call}: {log:?}");
        assert_eq!(log.last().unwrap(), "Cleanup", "{call}: {log:?}");
    }
}

#[tokio::test]
async fn an_evil_module_is_reported_with_its_class_and_undone() {
    let mut world = World::new().await;
    for (number, (call, script, told)) in [
        ("ArtifactInstall", "sleep 1000", "did not end within 2s"),
        (
            "ArtifactInstall",
            "(setsid sleep 1000 &); (sleep 1000 &); kill -9 $$",
            "signal: 9",
        ),
        (
            "Download",
            "cat stream-next; sleep 1000",
            "did not end within 2s",
        ),
        (
            "NeedsArtifactReboot",
            "echo Perhaps",
            "answers NeedsArtifactReboot with",
        ),
        (
            "NeedsArtifactReboot",
            "echo Automatic",
            "says reboot = \"never\"",
        ),
        (
            "NeedsArtifactReboot",
            "yes | head -c 1000000",
            "1000000 bytes",
        ),
        (
            "ArtifactCommit",
            "yes | head -c 9000000; exit 1",
            "failed in ArtifactCommit",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let file = world.host.path(&format!("do-{call}"));
        fs::write(&file, script).unwrap();
        world.timeout = if script.contains("sleep 1000") {
            "2s"
        } else {
            "2m"
        };
        world.plan(&(number + 2).to_string());
        let report = world.report().await;
        assert_eq!(result(&report), ReportResult::RolledBack, "{report:?}");
        let failure = report.failure.unwrap();
        assert_eq!(
            failure.class,
            i32::from(FailureClass::Install),
            "{failure:?}"
        );
        assert!(failure.detail.contains(told), "{script}: {failure:?}");
        assert_eq!(world.active(), "1");
        fs::remove_file(file).unwrap();
    }
}
