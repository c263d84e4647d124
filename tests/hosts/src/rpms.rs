//! A product of RPM packages, and hosts that have rpm and dnf and no dpkg: Debian's own builds of both.
//!
//! Two packages that must have the same version, one with a script and configuration, made by `rpmbuild`. Invariant: what is
//! installed is asked of rpm and of the files, never of the agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};

use crate::vendor::{Made, Vendor, Wish};
use crate::{Host, HostLab};

/// What Debian calls the tools of such a host, and what registers logins. One list, so that one further base tree is made.
pub const FURTHER: [&str; 5] = [
    "rpm",
    "dnf",
    "dnf-plugins-core",
    "createrepo-c",
    "libpam-systemd",
];

/// Makes a host one of rpm: with a database where Fedora has it, and none of dpkg. Debian's dnf has a plugin for packages of
/// its own making, which no other distribution has.
const PREPARE: &str = "\
mkdir -p /etc/rpm /usr/lib/sysimage/rpm /etc/yum.repos.d
echo '%_dbpath /usr/lib/sysimage/rpm' >/etc/rpm/macros
rpm --initdb
printf '[main]\\nenabled = false\\n' >/etc/dnf/plugins/local.conf
rm -rf /var/lib/dpkg
sync
";

/// Makes releases of it.
#[derive(Debug, Default)]
pub struct Rpms {
    number: AtomicU32,
}

/// Makes a host of [`FURTHER`] one of rpm. Its database knows of one package, `system`, which stands for the distribution.
pub fn prepare_rpm_host(host: &Host) -> Result<()> {
    host.shell(PREPARE)?;
    let directory = tempfile::tempdir()?;
    let provides = "Provides: /bin/sh systemd\n";
    let system = rpm(directory.path(), "system", "1", provides, &[], "")?;
    host.push(&system, "/root/system.rpm")?;
    host.shell("rpm -i /root/system.rpm; sync").map(drop)
}

/// Builds a package of one file, `/usr/share/NAME/version`, into a directory; `more` are further lines of its head, `files` are
/// its other files by their paths, and `rest` are further sections.
pub fn rpm(
    directory: &Path,
    name: &str,
    version: &str,
    more: &str,
    files: &[(&str, &[u8])],
    rest: &str,
) -> Result<PathBuf> {
    let top = directory.join(format!(".{name}-{version}"));
    let sources = top.join("SOURCES");
    let version_file = format!("/usr/share/{name}/version");
    let text = format!("{version}\n");
    let mut install = String::new();
    let mut list = String::new();
    for (path, bytes) in files
        .iter()
        .copied()
        .chain([(&*version_file, text.as_bytes())])
    {
        write(&sources.join(path.trim_start_matches('/')), bytes)?;
        let attribute = if path.starts_with("/etc/") {
            "%config(noreplace) "
        } else {
            ""
        };
        let line = format!("install -D -m 644 %{{_sourcedir}}{path} %{{buildroot}}{path}\n");
        install.push_str(&line);
        list.extend([attribute, path, "\n"]);
    }
    let spec = format!(
        "Name: {name}\nVersion: {version}\nRelease: 1\nSummary: made by a test\nLicense: none\nBuildArch: noarch\n{more}\
         %description\nMade by a test.\n%install\n{install}%files\n{list}{rest}"
    );
    let path = top.join("spec");
    write(&path, spec.as_bytes())?;
    let output = Command::new("rpmbuild")
        .args(["-bb", "--quiet", "--define"])
        .arg(format!("_topdir {}", top.display()))
        .arg(&path)
        .output()
        .context("cannot run rpmbuild; hosts.sh install brings it")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "rpmbuild: {error}");
    let file = format!("{name}-{version}-1.noarch.rpm");
    let made = directory.join(&file);
    fs::rename(top.join("RPMS/noarch").join(file), &made)?;
    fs::remove_dir_all(&top)?;
    Ok(made)
}

impl Vendor for Rpms {
    fn prepare(&self, host: &Host) -> Result<()> {
        prepare_rpm_host(host)?;
        // Something of the administrator's own, which every version must leave alone.
        host.shell("mkdir -p /etc/app; echo mine >/etc/app/local; sync")
            .map(drop)
    }

    fn make(&self, lab: &HostLab, wish: &Wish) -> Result<Made> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let version = format!("1.{number}");
        let directory = lab.lab().directory().join("rpms").join(&version);
        let files = directory.join("files");
        fs::create_dir_all(&files)?;
        // Slow enough to be cut off in the middle, as real packages' scripts are.
        let script = "%post\nsleep 0.2; mkdir -p /var/lib/app; cp /usr/share/app/version /var/lib/app/configured\n";
        let same = format!("Requires: app-data = {version}\n");
        let configuration: [(&str, &[u8]); 1] = [("/etc/app/app.conf", b"port = 80\n")];
        rpm(&files, "app", &version, &same, &configuration, script)?;
        let data: [(&str, &[u8]); 1] = [("/usr/share/app-data/data", &wish.bytes())];
        rpm(&files, "app-data", &version, "", &data, "")?;
        let (check, verify) = if wish.good {
            ("true", "20s")
        } else {
            ("echo the page is missing; exit 1", "2s")
        };
        let text = format!(
            "name = \"app\"\nversion = \"{version}\"\n{head}[installer]\ntype = \"package\"\n\
             [timeouts]\nactivate = \"1m\"\nreboot = \"60s\"\nverify = \"{verify}\"\n\
             [[check]]\nname = \"page\"\ninterval = \"100ms\"\n\
             exec = {{ command = [\"/bin/sh\", \"-c\", \"[ $(cat /var/lib/app/configured) = {version} ] && {check}\"] }}\n",
            head = wish.head(),
        );
        fs::write(directory.join("release.toml"), text)?;
        lab.lab().publish_directory(&directory)?;
        Ok(Made {
            release: format!("app@{version}"),
            version,
        })
    }

    fn installed(&self, host: &Host) -> Result<Option<String>> {
        let installed = installed(host)?;
        let version = installed.first().and_then(|line| line.split(' ').nth(1));
        Ok(version.map(str::to_owned))
    }

    fn prove_whole(&self, host: &Host) -> Result<()> {
        let installed = installed(host)?;
        let Some(version) = self.installed(host)? else {
            return Ok(());
        };
        let expected = ["app", "app-data"].map(|name| format!("{name} {version}"));
        ensure!(
            installed == expected,
            "{}: {installed:?} are installed",
            host.name()
        );
        // Times are not of the packages where a file was brought back.
        let verified = host.run(&["rpm", "--verify", "--nomtime", "app", "app-data"])?;
        ensure!(
            verified.stdout.is_empty() && verified.code == 0,
            "{}: files of the packages are not theirs: {}",
            host.name(),
            verified.stdout
        );
        let says = host
            .read("/var/lib/app/configured")
            .context("not configured")?;
        let says = String::from_utf8(says)?;
        ensure!(says.trim() == version, "it was configured as {says}");
        let local = host.read("/etc/app/local").context("no /etc/app/local")?;
        ensure!(
            local == b"mine\n",
            "the administrator's own file was changed"
        );
        let beside = host.shell("ls /etc/app")?;
        ensure!(
            beside.split_whitespace().eq(["app.conf", "local"]),
            "configuration was kept aside: {beside}"
        );
        Wish::prove(&host.read("/usr/share/app-data/data").context("no data")?)
    }
}

/// Both packages as rpm tells them, by name.
fn installed(host: &Host) -> Result<Vec<String>> {
    let said = host.shell("rpm -qa --qf '%{NAME} %{VERSION}\\n' 'app*' | sort")?;
    Ok(said.lines().map(str::to_owned).collect())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let parent = path.parent().context("a path below a directory")?;
    fs::create_dir_all(parent)?;
    Ok(fs::write(path, bytes)?)
}
