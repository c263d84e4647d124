//! The binary `comber-controller` as an administrator uses it: first start, questions to the running process, backup and
//! restore, and the exit codes. Touches loopback and temporary directories only.
#![cfg(test)]

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Steps of a wait for something that must happen, 20 ms each: a minute.
const STEPS: u32 = 3000;

/// A controller's configuration and data.
struct Home {
    dir: TempDir,
    data: PathBuf,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let home = Self { dir, data };
        home.configure("");
        home
    }

    fn configure(&self, more: &str) {
        let text = format!(
            "listen = \"127.0.0.1:0\"\ndata_dir = {:?}\n{more}[metrics]\nlisten = \"127.0.0.1:0\"\n",
            self.data
        );
        fs::write(self.dir.path().join("controller.toml"), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_comber-controller"));
        command
            .arg("--config")
            .arg(self.dir.path().join("controller.toml"))
            .args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Starts it and waits until it answers questions.
    fn start(&self) -> Running {
        self.start_with(&[])
    }

    /// The same, with something in its environment.
    fn start_with(&self, environment: &[(&str, String)]) -> Running {
        let mut command = self.command(&["serve"]);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let socket = self.data.join("control.sock");
        for _ in 0..STEPS {
            if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
                return Running(child);
            }
            if child.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let log = Running(child).kill();
        panic!("the controller does not start: {log}");
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }
}

/// A process of this test; killed with it.
struct Running(Child);

impl Running {
    /// Stops it in good order; gives its log.
    fn stop(mut self) -> String {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, Signal::TERM).unwrap();
        let log = self.read();
        let status = self.0.wait().unwrap();
        assert!(status.success(), "{status}: {log}");
        log
    }

    fn kill(mut self) -> String {
        let _gone = self.0.kill();
        self.read()
    }

    fn read(&mut self) -> String {
        let mut log = String::new();
        let mut pipe = self.0.stderr.take().unwrap();
        pipe.read_to_string(&mut log).unwrap();
        log
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

#[track_caller]
fn ended(output: &Output, code: i32) -> String {
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

#[test]
fn the_first_start_leaves_a_token_for_the_first_operator_and_later_ones_do_not() {
    let home = Home::new();
    let running = home.start();
    let place = home.data.join("admin-token");
    let mode = fs::metadata(&place).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let token = fs::read_to_string(&place).unwrap();
    assert!(token.starts_with("cmb1_"), "no token");
    let log = running.stop();
    let told = format!("--token-file {}", place.display());
    assert!(
        log.contains("comber init --controller https://localhost:") && log.contains(&told),
        "{log}"
    );
    assert!(!log.contains(&token), "the log tells the token");
    fs::remove_file(&place).unwrap();
    let log = home.start().stop();
    assert!(!place.exists() && !log.contains("comber init"), "{log}");
}

#[test]
fn a_running_controller_makes_a_token_and_a_stopped_one_says_what_to_do() {
    let home = Home::new();
    let text = ended(&home.run(&["admin-token"]), 74);
    assert!(text.contains("start it"), "{text}");
    let running = home.start();
    let one = ended(&home.run(&["admin-token"]), 0);
    let two = ended(&home.run(&["admin-token"]), 0);
    assert!(one.starts_with("cmb1_") && one != two, "{one}{two}");
    let mode = fs::metadata(home.data.join("control.sock")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    running.stop();
}

#[test]
fn a_data_directory_has_one_controller() {
    let home = Home::new();
    let running = home.start();
    let text = ended(&home.run(&["serve"]), 74);
    assert!(text.contains("in use by another process"), "{text}");
    // The one that was refused left the other one's socket alone.
    ended(&home.run(&["admin-token"]), 0);
    running.stop();
}

#[test]
fn a_backup_of_a_running_and_of_a_stopped_controller_can_be_restored() {
    let home = Home::new();
    let running = home.start();
    let online = home.path("online");
    ended(&home.run(&["backup", &online]), 0);
    let again = ended(&home.run(&["backup", &online]), 74);
    assert!(again.contains("name a new directory"), "{again}");
    running.stop();
    let offline = home.path("offline");
    ended(&home.run(&["backup", &offline]), 0);
    for backup in [&online, &offline] {
        let other = Home::new();
        let text = ended(&other.run(&["restore", backup]), 0);
        assert!(text.contains("artifacts"), "{text}");
        let certificate = |data: &Path| fs::read(data.join("pki/ca.pem"));
        let (old, new) = (certificate(&home.data), certificate(&other.data));
        assert_eq!(old.unwrap(), new.unwrap(), "another CA");
        // It is no new controller: nobody gets a token for nothing.
        let log = other.start().stop();
        assert!(!other.data.join("admin-token").exists(), "{log}");
        let text = ended(&other.run(&["restore", backup]), 74);
        assert!(text.contains("first, so that nothing is lost"), "{text}");
    }
}

#[test]
fn the_service_manager_hears_of_the_start_of_life_and_of_the_end() {
    let home = Home::new();
    let manager = UnixDatagram::bind(home.path("notify")).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_mins(1)))
        .unwrap();
    let hear = || {
        let mut told = [0; 256];
        let n = manager.recv(&mut told).unwrap();
        String::from_utf8_lossy(&told[..n]).into_owned()
    };
    let running = home.start_with(&[
        ("NOTIFY_SOCKET", home.path("notify")),
        ("WATCHDOG_USEC", "90000".to_owned()),
    ]);
    assert_eq!(hear(), "READY=1");
    assert_eq!(hear(), "STATUS=0 hosts connected");
    // More than one comes: they are not only sent where something changes.
    assert_eq!([hear(), hear()], ["WATCHDOG=1", "WATCHDOG=1"]);
    running.stop();
    let rest = std::iter::repeat_with(hear).find(|told| told != "WATCHDOG=1");
    assert_eq!(rest.as_deref(), Some("STOPPING=1"));
}

#[test]
fn another_user_neither_backs_up_nor_restores() {
    let home = Home::new();
    home.start().stop();
    if !rustix::process::geteuid().is_root() {
        // Only root can give files away.
        return;
    }
    chown(&home.data, Some(12_345), Some(12_345)).unwrap();
    let backup = home.path("backup");
    for question in ["backup", "restore"] {
        let text = ended(&home.run(&[question, &backup]), 74);
        assert!(text.contains("runuser -u comber"), "{text}");
    }
    assert!(!Path::new(&backup).exists(), "something was written");
}

#[test]
fn a_damaged_backup_is_refused_and_leaves_nothing_that_starts() {
    let home = Home::new();
    home.start().stop();
    let backup = home.path("backup");
    ended(&home.run(&["backup", &backup]), 0);
    let file = Path::new(&backup).join("store.backup");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let other = Home::new();
    let text = ended(&other.run(&["restore", &backup]), 65);
    assert!(text.contains("take another backup"), "{text}");
    assert!(!other.data.join("pki").exists(), "a CA without its state");
}

#[test]
fn a_state_whose_ca_is_gone_is_refused_and_gets_no_new_one() {
    let home = Home::new();
    home.start().stop();
    let (pki, away) = (home.data.join("pki"), home.data.join("away"));
    fs::rename(&pki, &away).unwrap();
    let text = ended(&home.run(&["serve"]), 65);
    assert!(text.contains("from a backup"), "{text}");
    assert!(!pki.exists(), "a new CA was made");
    fs::create_dir(&pki).unwrap();
    fs::copy(away.join("ca.pem"), pki.join("ca.pem")).unwrap();
    let text = ended(&home.run(&["serve"]), 65);
    assert!(text.contains("ca-key.pem"), "{text}");
    fs::remove_dir_all(&pki).unwrap();
    fs::rename(&away, &pki).unwrap();
    home.start().stop();
}

#[test]
fn every_mistake_of_a_configuration_is_told_at_once() {
    let home = Home::new();
    assert!(ended(&home.run(&["check-config"]), 0).contains("good"));
    home.configure(
        "names = []\nport = 1\n[limits]\nconnections = 0\n[artifacts]\nmax_size = \"much\"\n",
    );
    let text = ended(&home.run(&["check-config"]), 78);
    for key in ["names", "port", "limits.connections", "artifacts.max_size"] {
        assert!(text.contains(key), "{key} is not in {text}");
    }
    ended(&home.run(&["serve"]), 78);
    assert!(!home.data.exists(), "something was made all the same");
    ended(&home.run(&["fly"]), 64);
    ended(&home.run(&["--help"]), 0);
}

#[test]
fn what_it_runs_with_is_shown_with_where_it_comes_from() {
    let home = Home::new();
    let text = ended(&home.run(&["--log-level", "debug", "show-config"]), 0);
    for part in [
        "127.0.0.1:0",
        "controller.toml",
        "--log-level",
        "max_size = \"4 GiB\"",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn an_address_in_use_is_told_with_its_key() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let home = Home::new();
    let text = format!(
        "listen = \"{}\"\ndata_dir = {:?}\n[metrics]\nlisten = \"127.0.0.1:0\"\n",
        taken.local_addr().unwrap(),
        home.data
    );
    fs::write(home.dir.path().join("controller.toml"), text).unwrap();
    let text = ended(&home.run(&["serve"]), 74);
    assert!(text.contains("(listen)"), "{text}");
}
