//! Comber's own packages for RPM hosts: what they hold, and installed, upgraded and removed by the real rpm on a real host.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use comber_hosts::{
    AGENT_UNIT, Debs, FURTHER, FleetOptions, HostLab, LONG, STATE_DIR, prepare_rpm_host, rpm,
};
use comber_test_support::wait;

const PROGRAMS: [&str; 3] = ["comber-controller", "comber-agent", "comber"];

/// What each holds beside its program, its completions, its manual and its bill of materials, with the flags of rpm: `cn` is configuration that is
/// kept where it was edited.
const OWN: [(&str, &[(&str, &str)]); 3] = [
    (
        "comber-controller",
        &[
            ("/etc/comber/controller.toml", "cn"),
            ("/usr/lib/systemd/system/comber-controller.service", ""),
            ("/usr/lib/sysusers.d/comber-controller.conf", ""),
            ("/usr/lib/tmpfiles.d/comber-controller.conf", ""),
        ],
    ),
    (
        "comber-agent",
        &[
            ("/etc/comber/agent.toml", "cn"),
            ("/usr/lib/systemd/system/comber-agent-watch.service", ""),
            ("/usr/lib/systemd/system/comber-agent.service", ""),
            ("/usr/lib/tmpfiles.d/comber-agent.conf", ""),
        ],
    ),
    (
        "comber",
        &[
            ("/usr/lib/systemd/system/comber-refresh.service", ""),
            ("/usr/lib/systemd/system/comber-refresh.timer", ""),
        ],
    ),
];

/// What rpm says of a package file.
#[expect(clippy::unwrap_used, reason = "a test that cannot ask has failed")]
fn ask(file: &Path, arguments: &[&str]) -> String {
    let output = Command::new("rpm")
        .args(["--query", "--nosignature", "--package"])
        .args(arguments)
        .arg(file)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Insists on the files, their modes, owners and flags, and on the scripts of a package.
fn is_as_it_should_be(file: &Path, name: &str, own: &[(&str, &str)]) {
    let format =
        "[%{FILENAMES} %{FILEMODES:octal} %{FILEUSERNAME}:%{FILEGROUPNAME} .%{FILEFLAGS:fflags}\n]";
    let listed = ask(file, &["--queryformat", format]);
    let mut held: BTreeMap<&str, (&str, &str, &str)> = BTreeMap::new();
    for line in listed.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [path, mode, owner, flags] = words[..] else {
            panic!("{line}");
        };
        held.insert(path, (mode, owner, flags.trim_start_matches('.')));
    }
    let section = if name == "comber" { 1 } else { 8 };
    let manual = format!("/usr/share/man/man{section}/{name}");
    let bill = format!("/usr/share/doc/{name}/sbom.cdx.json");
    let made = [
        bill.clone(),
        format!("/usr/share/bash-completion/completions/{name}"),
        format!("/usr/share/zsh/site-functions/_{name}"),
        format!("/usr/share/fish/vendor_completions.d/{name}.fish"),
    ];
    let program = format!("/usr/bin/{name}");
    for (path, (mode, owner, flags)) in &held {
        assert_eq!(*owner, "root:root", "{path}");
        let expected = if *path == program { "100755" } else { "100644" };
        assert_eq!(*mode, expected, "{path}");
        let known = own.iter().find(|(own, _)| own == path);
        let expected = match known {
            Some((_, flags)) => flags,
            None if path.starts_with(&manual) || **path == bill => "d",
            None => "",
        };
        assert_eq!(*flags, expected, "{path}");
        let is_made = made.iter().any(|made| made == path) || path.starts_with(&manual);
        assert!(
            known.is_some() || *path == program || is_made,
            "{name} holds {path}"
        );
    }
    let own = own.iter().map(|(path, _)| *path);
    for path in own
        .chain(made.iter().map(String::as_str))
        .chain([program.as_str()])
    {
        assert!(held.contains_key(path), "{name} lacks {path}: {listed}");
    }
    let pages = held.keys().filter(|path| path.starts_with(&manual)).count();
    assert!(pages > 3, "{name} has {pages} manual pages");

    let scripts = ask(file, &["--scripts"]);
    let expected = match name {
        "comber" => "",
        _ => "postinstall preuninstall postuninstall",
    };
    let kinds: Vec<&str> = scripts
        .lines()
        .filter_map(|line| line.strip_suffix(" scriptlet:"))
        .collect();
    assert_eq!(kinds.join(" "), expected, "{scripts}");
    for (part, kind) in [
        ("post", "postinstall"),
        ("preun", "preuninstall"),
        ("postun", "postuninstall"),
    ] {
        let path = format!(
            "{}/../../packaging/rpm/{name}/{part}.sh",
            env!("CARGO_MANIFEST_DIR")
        );
        if let Ok(script) = fs::read_to_string(path) {
            assert!(
                scripts.contains(script.trim()),
                "{kind} of {name} is another one"
            );
        }
    }
}

/// Programs of a host of rpm need what its distribution brings. Here that is Debian's, of which rpm knows nothing; a package
/// says so.
#[expect(clippy::unwrap_used, reason = "a test that cannot build has failed")]
fn libraries(directory: &Path, files: &[&Path]) -> PathBuf {
    let mut provides = String::new();
    for file in files {
        for line in ask(file, &["--requires"]).lines() {
            let name = line.split_whitespace().next().unwrap();
            // These are of the system already, or of rpm itself.
            if !name.starts_with("rpmlib(") && !matches!(name, "/bin/sh" | "systemd") {
                provides.extend(["Provides: ", name, "\n"]);
            }
        }
    }
    rpm(directory, "libraries", "1", &provides, &[], "").unwrap()
}

#[test]
#[ignore = "needs root and real hosts"]
fn combers_own_rpms_are_whole_and_can_be_installed_upgraded_and_removed() {
    let fleet = FleetOptions {
        more: FURTHER.to_vec(),
        ..FleetOptions::default()
    };
    let lab = HostLab::without_agents_on(1, &fleet).unwrap();
    let (host, directory) = (lab.host(1), lab.lab().directory().join("rpms"));
    fs::create_dir_all(&directory).unwrap();
    prepare_rpm_host(host).unwrap();
    for revision in [1, 2] {
        let made = Debs::make_revision(revision).unwrap();
        for (name, own) in OWN {
            let file = made.rpm_of(name).unwrap();
            is_as_it_should_be(&file, name, own);
            let to = directory.join(format!("{name}-{revision}.rpm"));
            fs::copy(file, to).unwrap();
        }
    }
    let file = |name: &str, revision: u32| directory.join(format!("{name}-{revision}.rpm"));
    let first = PROGRAMS.map(|name| file(name, 1));
    let first: Vec<&Path> = first.iter().map(PathBuf::as_path).collect();
    let install = |file: &Path| {
        host.push(file, "/root/one.rpm").unwrap();
        host.exec(&["rpm", "--upgrade", "/root/one.rpm"]).unwrap();
    };
    install(&libraries(&directory, &first));

    // The agent: enrolled, edited, upgraded, removed.
    install(&file("comber-agent", 1));
    let token = lab.lab().token(&["--uses", "1"]).unwrap();
    let url = lab.controller_url();
    host.exec(&[
        "comber-agent",
        "enroll",
        "--controller",
        &url,
        "--token",
        &token,
    ])
    .unwrap();
    lab.wait_connected(1).unwrap();
    let agent = host.agent().unwrap();
    host.shell("echo '# edited here' >>/etc/comber/agent.toml")
        .unwrap();
    install(&file("comber-agent", 2));
    let anew = wait::until(LONG, || host.agent().filter(|new| *new != agent));
    assert!(anew.is_some(), "the upgrade did not restart it");
    lab.wait_connected(1).unwrap();
    let said = host
        .exec(&["rpm", "-q", "--qf", "%{RELEASE}", "comber-agent"])
        .unwrap();
    assert_eq!(said, "2");
    let configuration = host.pull("/etc/comber/agent.toml").unwrap();
    assert!(
        String::from_utf8(configuration)
            .unwrap()
            .ends_with("# edited here\n")
    );
    let verified = host
        .run(&["rpm", "--verify", "comber-agent"])
        .unwrap()
        .stdout;
    let other: Vec<&str> = verified
        .lines()
        .filter(|line| !line.contains(" c "))
        .collect();
    assert!(other.is_empty(), "{verified}");
    let enabled = host.exec(&["systemctl", "is-enabled", AGENT_UNIT]).unwrap();
    assert_eq!(enabled.trim(), "enabled");

    host.exec(&["rpm", "--erase", "comber-agent"]).unwrap();
    assert!(host.agent().is_none());
    assert!(host.read("/usr/bin/comber-agent").is_none());
    assert_ne!(host.run(&["systemctl", "cat", AGENT_UNIT]).unwrap().code, 0);
    assert!(host.read("/etc/comber/agent.toml.rpmsave").is_some());
    // Its state is not the package's: installed again it goes on.
    assert!(host.read(&format!("{STATE_DIR}/identity.toml")).is_some());

    // The controller brings its user and its directory, and leaves no unit behind. The command is a program.
    install(&file("comber-controller", 1));
    install(&file("comber", 1));
    host.shell("getent passwd comber; [ $(stat -c %U /var/backups/comber) = comber ]")
        .unwrap();
    let loaded = host
        .exec(&[
            "systemctl",
            "show",
            "-P",
            "LoadState",
            "comber-controller.service",
        ])
        .unwrap();
    assert_eq!(loaded.trim(), "loaded");
    host.exec(&["comber", "--version"]).unwrap();
    install(&file("comber-controller", 2));
    host.exec(&["rpm", "--erase", "comber-controller", "comber"])
        .unwrap();
    let left = host
        .shell("rpm -qa 'comber*'; ls /usr/bin/comber* /usr/lib/systemd/system/comber* 2>/dev/null || true")
        .unwrap();
    assert_eq!(left, "");
    let state = host.exec(&["systemctl", "is-system-running"]).unwrap();
    assert_eq!(state.trim(), "running");
}
