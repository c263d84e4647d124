//! The `package` installer with real rpm and dnf and a repository: what the host's own sources bring, what is refused, and
//! exactly back; and packages that are cut off.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use comber_e2e::{assert_outcomes, has, is};
use comber_hosts::{
    Cut, FURTHER, FleetOptions, Host, HostLab, HostLabOptions, LONG, Rpms, Wish, at_every_state,
    at_random_instants_of, prepare_rpm_host, rpm, run_trials, soak,
};
use comber_test_support::wait;

/// Hosts at once in trials.
const HOSTS: usize = 4;
/// About how long a change takes on a busy machine.
const KINDS: [(Wish, Duration); 2] = [
    (Wish::GOOD, Duration::from_secs(4)),
    (Wish::BAD, Duration::from_secs(7)),
];

/// The repository of the host, as a distribution's is: reached over HTTP.
const REPOSITORY: &str = "\
createrepo_c --quiet /srv/repository
systemd-run --quiet --unit=repository python3 -m http.server --directory /srv/repository --bind 127.0.0.1 8000
printf '[base]\\nname=base\\nbaseurl=http://127.0.0.1:8000/\\ngpgcheck=0\\nmetadata_expire=0\\n' >/etc/yum.repos.d/base.repo
until python3 -c 'import urllib.request; urllib.request.urlopen(\"http://127.0.0.1:8000/\")' 2>/dev/null; do sleep 0.1; done
";

/// Holds rpm's lock until it is stopped.
const LOCK: &str = "import fcntl, time; f = open('/usr/lib/sysimage/rpm/.rpm.lock', 'w'); \
    fcntl.lockf(f, fcntl.LOCK_EX); open('/run/locked', 'w'); time.sleep(3600)";

fn lab(hosts: usize) -> HostLab {
    let options = HostLabOptions {
        fleet: FleetOptions {
            more: FURTHER.to_vec(),
            ..FleetOptions::default()
        },
        ..HostLabOptions::default()
    };
    #[expect(clippy::unwrap_used, reason = "a test without hosts has failed")]
    HostLab::with(hosts, &options).unwrap()
}

/// One host with a repository, and what makes releases of packages for it.
struct RpmHost {
    lab: HostLab,
    directory: PathBuf,
}

#[expect(clippy::unwrap_used, reason = "a test that cannot ask has failed")]
impl RpmHost {
    /// Its repository has these packages, as name, version and further lines of the head.
    fn new(repository: &[(&str, &str, &str)]) -> Self {
        let lab = lab(1);
        let directory = lab.lab().directory().join("rpms");
        fs::create_dir_all(&directory).unwrap();
        let this = Self { lab, directory };
        prepare_rpm_host(this.host()).unwrap();
        for (name, version, more) in repository {
            let built = this.built(name, version, more);
            let file = built.file_name().unwrap().to_str().unwrap().to_owned();
            this.host()
                .push(&built, &format!("/srv/repository/{file}"))
                .unwrap();
        }
        this.host().shell(REPOSITORY).unwrap();
        this
    }

    fn host(&self) -> &Host {
        self.lab.host(1)
    }

    fn built(&self, name: &str, version: &str, more: &str) -> PathBuf {
        rpm(&self.directory, name, version, more, &[], "").unwrap()
    }

    /// Publishes a release of these packages and gives its rollout.
    fn roll_out(&self, version: &str, recipe: &str, files: &[PathBuf]) -> String {
        let release = self.directory.join(format!("release-{version}"));
        for file in files {
            let to = release.join("files").join(file.file_name().unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(file, to).unwrap();
        }
        let text = format!(
            "name = \"tools\"\nversion = \"{version}\"\n[installer]\ntype = \"package\"\n{recipe}\n"
        );
        fs::write(release.join("release.toml"), text).unwrap();
        self.lab.lab().publish_directory(&release).unwrap();
        let spec = format!(
            "release = \"tools@{version}\"\nselector = \"true\"\n[budget]\nfailures = {{ max = \"100%\" }}\n[[wave]]\nhosts = \"rest\"\n"
        );
        self.lab.lab().roll_out(&spec).unwrap()
    }

    #[track_caller]
    fn succeeds(&self, version: &str, recipe: &str, files: &[PathBuf]) -> String {
        let id = self.roll_out(version, recipe, files);
        self.lab.lab().wait_for(&id, LONG, is("completed")).unwrap();
        assert_outcomes(self.lab.lab(), &id, &[("succeeded", 1)]);
        id
    }

    /// Rolls a rollout back, until rpm says that exactly these are installed.
    #[track_caller]
    fn goes_back(&self, id: &str, to: &str) {
        let comber = self.lab.comber();
        comber.ok(&["rollout", "rollback", id, "--yes"]).unwrap();
        let there = wait::until(LONG, || (self.set() == to).then_some(()));
        assert!(there.is_some(), "{}", self.set());
    }

    /// Why the host refused it, before anything was changed.
    #[track_caller]
    fn is_refused(&self, version: &str, recipe: &str, files: &[PathBuf]) -> String {
        let before = self.packages();
        let id = self.roll_out(version, recipe, files);
        let status = self
            .lab
            .lab()
            .wait_for(&id, LONG, has(&[("failed", 1)]))
            .unwrap();
        assert_eq!(status["failed_by_class"]["preflight"], 1, "{status:#}");
        assert_eq!(self.packages(), before);
        let hosts = self.lab.comber().json(&["rollout", "hosts", &id]).unwrap();
        hosts.to_string()
    }

    /// All that rpm says is installed beside the system, with the run that brought it.
    fn packages(&self) -> String {
        self.host()
            .shell("rpm -qa --qf '%{NEVRA} %{INSTALLTID}\\n' | grep -v ^system- | sort")
            .unwrap()
    }

    /// The same without the run: what a rollback restores.
    fn set(&self) -> String {
        self.host()
            .shell("rpm -qa --qf '%{NEVRA}\\n' | grep -v ^system- | sort")
            .unwrap()
    }
}

#[test]
#[ignore = "needs root and real hosts"]
fn rpms_come_with_what_the_hosts_own_sources_have_and_go_back_exactly() {
    let host = RpmHost::new(&[("tool", "1", ""), ("lib", "3", ""), ("beside", "1", "")]);
    host.host()
        .exec(&["dnf", "-qy", "install", "tool", "beside"])
        .unwrap();
    let was = host.set();
    assert_eq!(was, "beside-1-1.noarch\ntool-1-1.noarch\n");
    let two = [host.built("tool", "2", "Requires: lib >= 3\n")];

    let why = host.is_refused("1.0", "", &two);
    assert!(
        why.contains("lib >= 3 is needed by tool-2-1.noarch"),
        "{why}"
    );

    let host_too = "dependencies = \"host\"";
    let set = "beside-1-1.noarch\nlib-3-1.noarch\ntool-2-1.noarch\n";
    let first = host.succeeds("1.1", host_too, &two);
    assert_eq!(host.set(), set);
    host.goes_back(&first, &was);

    host.succeeds("1.2", host_too, &two);
    let now = host.packages();
    // Already satisfied: it succeeds, and nothing was run.
    host.succeeds("1.3", "", &two);
    assert_eq!(host.packages(), now);
    let third = host.succeeds("1.4", "", &[host.built("tool", "3", "")]);
    assert!(host.set().contains("tool-3-1.noarch"), "{}", host.set());
    host.goes_back(&third, set);
    // dnf finds nothing wrong, and nothing to do.
    host.host().exec(&["dnf", "-q", "check"]).unwrap();
}

#[test]
#[ignore = "needs root and real hosts"]
fn rpms_that_are_held_locked_or_of_another_kind_are_told_apart() {
    let host = RpmHost::new(&[("tool", "1", ""), ("kept", "1", "")]);
    let (shell, lab) = (
        |script: &str| host.host().shell(script).unwrap(),
        host.lab.lab(),
    );
    shell("dnf -qy install tool kept");
    let (tool, kept) = (host.built("tool", "2", ""), host.built("kept", "2", ""));

    // Of another kind, or of nothing that is here.
    let deb = host.directory.join("other.deb");
    fs::write(&deb, "never read here").unwrap();
    let other = host.built("other", "1", "");
    for (version, recipe, file) in [("0.1", "", deb), ("0.2", "only_installed = true", other)] {
        let id = host.roll_out(version, recipe, &[file]);
        let status = lab.wait_for(&id, LONG, has(&[("excluded", 1)])).unwrap();
        assert_eq!(
            status["excluded_by_reason"]["not_applicable"], 1,
            "{status:#}"
        );
    }

    shell("dnf -qy versionlock add kept");
    let both = [tool, kept];
    let why = host.is_refused("1.0", "", &both);
    assert!(why.contains("held on this host: kept:"), "{why}");
    shell("dnf -qy versionlock clear; echo 'excludepkgs=nothing, ke*' >>/etc/dnf/dnf.conf");
    let why = host.is_refused("1.1", "", &both);
    assert!(why.contains("held on this host: kept:"), "{why}");
    shell("sed -i /excludepkgs/d /etc/dnf/dnf.conf");

    // Somebody else is at work, for longer than the release waits; then for less.
    host.host().write("/root/lock.py", LOCK.as_bytes()).unwrap();
    let hold = "rm -f /run/locked; systemd-run -q --unit=other python3 /root/lock.py; \
                until [ -e /run/locked ]; do sleep 0.1; done";
    shell(hold);
    let why = host.is_refused("1.2", "lock_wait = \"1s\"", &both);
    assert!(
        why.contains(".rpm.lock is held by process ") && why.contains("(python3)"),
        "{why}"
    );
    let id = host.roll_out("1.3", "lock_wait = \"4m\"\ndependencies = \"host\"", &both);
    let waits = wait::until(LONG, || {
        let journal = host.host().journal("comber-agent.service").ok()?;
        let last = journal.rsplit("tools@1.3").next()?;
        last.contains("waits for the package manager's lock")
            .then_some(())
    });
    assert!(waits.is_some(), "it does not say that it waits");
    shell("systemctl stop other.service");
    lab.wait_for(&id, LONG, is("completed")).unwrap();
    assert_outcomes(lab, &id, &[("succeeded", 1)]);
    assert_eq!(host.set(), "kept-2-1.noarch\ntool-2-1.noarch\n");
}

#[test]
#[ignore = "needs root and real hosts"]
fn power_is_cut_at_every_state_of_an_rpm_change() {
    let lab = lab(HOSTS);
    let mut trials = at_every_state(Cut::Power, soak(1, 3));
    trials.extend(at_random_instants_of(&KINDS, Cut::Power, soak(6, 100)));
    run_trials(&lab, &Rpms::default(), trials).unwrap();
}

#[test]
#[ignore = "needs root and real hosts"]
fn the_agent_is_killed_at_random_instants_of_an_rpm_change() {
    let lab = lab(HOSTS);
    let mut trials = at_random_instants_of(&KINDS, Cut::Agent, soak(6, 100));
    if soak(0, 1) == 1 {
        trials.extend(at_every_state(Cut::Agent, 3));
    }
    run_trials(&lab, &Rpms::default(), trials).unwrap();
}
