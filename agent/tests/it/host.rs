//! A host for tests: a root, a state directory and a boot in a temporary directory, and the real binary as its agent.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    sync::Mutex,
    time::Duration,
};

use comber_bundle::build;
use comber_model::{Action, Artifact, Assignment};
use comber_runtime::token::Token;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{controller::TestController, support::PATIENCE};

const BINARY: &str = env!("CARGO_BIN_EXE_comber-agent");

pub(crate) struct Host {
    dir: TempDir,
    child: Option<Child>,
    boots: Mutex<u32>,
}

impl Host {
    /// Settings on disk, nothing enrolled, nothing running.
    pub(crate) fn new() -> Self {
        let host = Self {
            dir: tempfile::tempdir().unwrap(),
            child: None,
            boots: Mutex::new(0),
        };
        fs::create_dir(host.path("root")).unwrap();
        let dir = host.dir.path().display();
        // The machine that the tests run on is not the host that they speak of.
        let settings = format!(
            "systemd = 'no'\nstate_dir = '{dir}/state'\nname = 'web-1'\n\
             [install]\nroot = '{dir}/root'\nmodules = ['{dir}/modules']\n\
             [variables]\nTEST_DIR = '{dir}'\n\
             [reboot]\ncommand = ['/usr/bin/touch', '{dir}/reboot-requested']\nboot_id_file = '{dir}/boot_id'\n\
             [link]\nbackoff_min = '20ms'\nbackoff_max = '200ms'\n\
             [log]\nlevel = 'info'\n"
        );
        fs::write(host.path("agent.toml"), settings).unwrap();
        host.next_boot();
        host
    }

    /// A host with clients of systemd that answer with files, and a logind that marks what it was asked for.
    pub(crate) async fn with_systemd(controller: &TestController) -> Self {
        let host = Self::enrolled(controller).await;
        let bin = host.path("bin");
        fs::create_dir(&bin).unwrap();
        let dir = bin.display();
        host.answers("state", "running");
        host.answers("failed", "");
        host.answers("inhibitors", r#"{"type":"a(ssssuu)","data":[[]]}"#);
        script(
            &bin.join("systemctl"),
            &format!(
                "case $1 in list-units) cat {dir}/failed;; is-system-running) cat {dir}/state;; esac"
            ),
        );
        script(
            &bin.join("busctl"),
            &format!(
                "case \"$*\" in *ListInhibitors*) cat {dir}/inhibitors;; *RebootWithFlags*) touch {dir}/../logind-asked;; esac"
            ),
        );
        host.edit(|settings| {
            let settings = settings.replace("systemd = 'no'", "systemd = 'yes'");
            let asks_logind = |line: &str| {
                if line.starts_with("command = ") {
                    String::new()
                } else {
                    line.to_owned()
                }
            };
            let lines: Vec<_> = settings.lines().map(asks_logind).collect();
            let path = format!("[variables]\nPATH = '{dir}:/usr/bin:/bin'");
            lines.join("\n").replace("[variables]", &path)
        });
        host
    }

    /// What systemd's clients answer from now on.
    pub(crate) fn answers(&self, file: &str, text: &str) {
        // In one step: a client may be reading it.
        let (new, path) = (self.path("bin").join("new"), self.path("bin").join(file));
        fs::write(&new, text).unwrap();
        fs::rename(&new, path).unwrap();
    }

    /// Replaces a table of the settings by this one.
    pub(crate) fn configure(&self, table: &str) {
        let (header, _) = table.split_once('\n').unwrap();
        self.edit(|settings| {
            let before = settings.split(header).next().unwrap().to_owned();
            let rest = settings.split(header).nth(1).unwrap();
            let after = rest.find("\n[").map_or("", |end| &rest[end..]);
            format!("{before}{table}{after}")
        });
    }

    fn edit(&self, change: impl FnOnce(&str) -> String) {
        let path = self.path("agent.toml");
        let settings = fs::read_to_string(&path).unwrap();
        fs::write(&path, change(&settings)).unwrap();
    }

    /// A host that is enrolled with `controller` by its own binary.
    pub(crate) async fn enrolled(controller: &TestController) -> Self {
        let host = Self::new();
        let output = host.enroll(controller, &controller.token(1, None)).await;
        assert!(output.status.success(), "{output:?}");
        host
    }

    pub(crate) async fn enroll(&self, controller: &TestController, token: &Token) -> Output {
        let file = self.path("token");
        fs::write(&file, format!("{}\n", token.reveal())).unwrap();
        let url = controller.url().to_string();
        let file = file.display().to_string();
        self.command(&["enroll", "--controller", &url, "--token-file", &file])
            .await
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs the binary to its end.
    pub(crate) async fn command(&self, arguments: &[&str]) -> Output {
        let mut command = self.agent();
        command.args(arguments).stdin(Stdio::null());
        command.output().await.unwrap()
    }

    pub(crate) fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Starts the agent with further arguments.
    pub(crate) fn start_with(&mut self, arguments: &[&OsStr]) {
        assert!(self.child.is_none(), "the agent runs already");
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        let mut command = self.agent();
        command
            .args(arguments)
            .env("NOTIFY_SOCKET", self.path("notify"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// As a power cut for the process: nothing of it runs any more.
    pub(crate) async fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().await.unwrap();
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
        ended
            .unwrap_or_else(|_| panic!("the agent does not end; its log:\n{}", self.log()))
            .unwrap()
    }

    /// As the service manager stops it.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
        ended
            .unwrap_or_else(|_| panic!("the agent does not end; its log:\n{}", self.log()))
            .unwrap()
    }

    /// Waits until the agent has ended by itself.
    pub(crate) async fn ends(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
        ended
            .unwrap_or_else(|_| panic!("the agent does not end; its log:\n{}", self.log()))
            .unwrap()
    }

    /// From now on the kernel would show another boot id.
    pub(crate) fn next_boot(&self) {
        let mut boots = self.boots.lock().unwrap();
        *boots += 1;
        let id = format!("{:08x}-0000-4000-8000-000000000000\n", *boots);
        fs::write(self.path("boot_id"), id).unwrap();
    }

    /// What `status` says. It must say something after whatever happened.
    pub(crate) async fn status(&self) -> Value {
        let output = self.command(&["status", "--output", "json"]).await;
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "status failed: {told}\nlog:\n{}",
            self.log()
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Waits until `status` says what passes.
    pub(crate) async fn becomes(&self, what: &str, passes: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let waiting = async {
            loop {
                last = self.status().await;
                if passes(&last) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let became = tokio::time::timeout(PATIENCE, waiting).await.is_ok();
        assert!(
            became,
            "never became {what}: {last:#}\nlog:\n{}",
            self.log()
        );
        last
    }

    pub(crate) async fn exists(&self, name: &str) {
        let waiting = async {
            while !self.path(name).exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let exists = tokio::time::timeout(PATIENCE, waiting).await.is_ok();
        assert!(exists, "{name} never appeared; log:\n{}", self.log());
    }

    /// What the active release says its version is.
    pub(crate) fn active(&self) -> Option<String> {
        let text = fs::read_to_string(self.path("root/opt/app/current/version")).ok()?;
        Some(text.trim().to_owned())
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn agent(&self) -> Command {
        let mut command = Command::new(BINARY);
        let config = self.path("agent.toml");
        command.arg("--config").arg(config).arg("--only-config");
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .kill_on_drop(true);
        command
    }
}

/// A release to be made.
pub(crate) struct Release<'a> {
    pub(crate) version: &'a str,
    /// The body of the script that is its check.
    pub(crate) check: &'a str,
    /// How long its check is tried.
    pub(crate) verify: &'a str,
    /// Further lines at the top of `release.toml`.
    pub(crate) more: &'a str,
}

impl Release<'_> {
    pub(crate) fn good(version: &str) -> Release<'_> {
        Release {
            version,
            check: "exit 0",
            verify: "20s",
            more: "",
        }
    }

    /// Builds it and puts its bytes on the controller.
    pub(crate) fn publish(&self, controller: &TestController) -> Artifact {
        let dir = tempfile::tempdir().unwrap();
        self.write(dir.path());
        let out = dir.path().join("app.bundle");
        let built = build(dir.path(), &out, &mut |_| {}).unwrap();
        let bytes = fs::read(&out).unwrap();
        controller.publish_artifact(&built.artifact.digest.to_string(), bytes);
        let id = built.listing.manifest().id();
        controller.shared.vendor.list(&out, &built.artifact, &id);
        built.artifact
    }

    /// Its bytes, as work for a host.
    pub(crate) fn assignment(&self, artifact: Artifact) -> Assignment {
        Assignment {
            rollout: "r1".parse().unwrap(),
            release: format!("app@{}", self.version).parse().unwrap(),
            action: Action::Install { artifact },
            rolls_back: false,
            attempt: 1,
            retry_bad: false,
            disconnected: false,
        }
    }

    fn write(&self, dir: &Path) {
        let Self {
            version,
            check,
            verify,
            more,
        } = self;
        let manifest = format!(
            "name = 'app'\nversion = '{version}'\n{more}\n\
             [installer]\ntype = 'archive'\npath = '/opt/app'\nstart = ['./start.sh']\nstop = ['./stop.sh']\n\
             [[check]]\nname = 'healthy'\nexec = {{ command = ['./check.sh'] }}\ninterval = '50ms'\ntimeout = '30s'\n\
             [timeouts]\nactivate = '20s'\nverify = '{verify}'\n"
        );
        fs::write(dir.join("release.toml"), manifest).unwrap();
        let files = dir.join("files");
        fs::create_dir(&files).unwrap();
        fs::write(files.join("version"), format!("{version}\n")).unwrap();
        for (name, body) in [
            ("start.sh", "exit 0"),
            ("stop.sh", "exit 0"),
            ("check.sh", check),
        ] {
            script(&files.join(name), body);
        }
    }
}

fn script(path: &Path, body: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
