//! The same with the real rpm on a database of its own, with packages that rpmbuild makes.

use super::*;

/// A host with an rpm database.
struct RpmHost {
    host: TestHost,
}

impl RpmHost {
    fn new() -> Option<Self> {
        if !can_run(&["rpm", "rpmbuild"]) {
            return None;
        }
        let host = TestHost::new();
        let root = format!("--root={}", host.root().display());
        run(Command::new("rpm").args([&root, "--initdb"]));
        Some(Self { host })
    }

    fn dir(&self) -> &Path {
        self.host.dir()
    }

    fn rpm(&self, name: &str, version: &str, more: &str) -> PathBuf {
        let spec = format!(
            "Name: {name}\nVersion: {version}\nRelease: 1\nSummary: made by a test\nLicense: none\nBuildArch: noarch\n{more}\n\
             %description\nx\n%install\nmkdir -p %{{buildroot}}/usr/share/{name}\n\
             echo {version} > %{{buildroot}}/usr/share/{name}/version\n%files\n/usr/share/{name}/version\n"
        );
        let path = self.dir().join(format!("{name}.spec"));
        fs::write(&path, spec).unwrap();
        let top = format!("_topdir {}", self.dir().join("build").display());
        run(Command::new("rpmbuild")
            .args(["-bb", "--quiet", "--define", &top])
            .arg(&path));
        self.dir()
            .join(format!("build/RPMS/noarch/{name}-{version}-1.noarch.rpm"))
    }

    fn by_hand(&self, rpms: &[&PathBuf]) {
        let root = format!("--root={}", self.host.root().display());
        run(Command::new("rpm")
            .arg(root)
            .args(["-U", "--nodeps", "--oldpackage"])
            .args(rpms));
    }

    fn packages(&self) -> String {
        let root = format!("--root={}", self.host.root().display());
        let said = run(Command::new("rpm").args([&root, "-qa", "--qf", "%{NVRA}\n"]));
        let mut lines: Vec<&str> = said.lines().collect();
        lines.sort_unstable();
        lines.join(" ")
    }

    async fn staged(&self, version: &str, recipe: &str, rpms: &[PathBuf]) -> (Record, Kind) {
        staged(self.dir(), release(self.dir(), version, recipe, rpms)).await
    }
}

#[tokio::test]
async fn rpms_are_upgraded_and_exactly_brought_back() {
    let Some(host) = RpmHost::new() else { return };
    let (old, first) = host.staged("1.0", PLAIN, &[host.rpm("a", "1", "")]).await;
    assert_eq!(first.preflight(None).await.unwrap(), Fit::Fits);
    first.activate(None).await.unwrap();
    assert_eq!(host.packages(), "a-1-1.noarch");

    let rpms = [
        host.rpm("a", "2", "Requires: lib = 3"),
        host.rpm("lib", "3", ""),
    ];
    let (new, second) = host.staged("2.0", PLAIN, &rpms).await;
    assert_eq!(second.preflight(Some(&old)).await.unwrap(), Fit::Fits);
    second.activate(Some(&old)).await.unwrap();
    assert_eq!(host.packages(), "a-2-1.noarch lib-3-1.noarch");
    second.prove().await.unwrap();

    second.roll_back(Some(&old)).await.unwrap();
    assert_eq!(host.packages(), "a-1-1.noarch");
    assert_eq!(detected(&second), "1.0");
    second.activate(Some(&old)).await.unwrap();
    first.activate(Some(&new)).await.unwrap();
    assert_eq!(host.packages(), "a-1-1.noarch");
    first.remove().await.unwrap();
    assert_eq!(host.packages(), "");
}

#[tokio::test]
async fn an_rpm_that_could_not_be_brought_back_is_refused() {
    let Some(host) = RpmHost::new() else { return };
    host.by_hand(&[&host.rpm("a", "1", "")]);
    let a2 = host.rpm("a", "2", "");
    let (_, package) = host.staged("2.0", PLAIN, std::slice::from_ref(&a2)).await;
    let why = told(package.preflight(None).await);
    assert!(why.contains("rpm cannot rebuild one"), "{why}");
    assert_eq!(told(package.activate(None).await), why);
    assert_eq!(host.packages(), "a-1-1.noarch");

    // Where dnf kept the file, it can.
    let cache = host.host.root().join("var/cache/dnf/base/packages");
    fs::create_dir_all(&cache).unwrap();
    fs::copy(
        host.dir().join("build/RPMS/noarch/a-1-1.noarch.rpm"),
        cache.join("a-1-1.noarch.rpm"),
    )
    .unwrap();
    package.preflight(None).await.unwrap();
    package.activate(None).await.unwrap();
    package.roll_back(None).await.unwrap();
    assert_eq!(host.packages(), "a-1-1.noarch");

    let irreversible = format!("irreversible = true\n{PLAIN}");
    fs::remove_dir_all(host.host.root().join("var/cache")).unwrap();
    fs::remove_dir_all(host.dir().join("state/shelves/tools/changes")).unwrap();
    let (_, package) = host.staged("3.0", &irreversible, &[a2]).await;
    package.activate(None).await.unwrap();
    assert_eq!(host.packages(), "a-2-1.noarch");
}

#[tokio::test]
async fn what_rpm_cannot_take_is_refused() {
    let Some(host) = RpmHost::new() else { return };
    let (_, package) = host
        .staged("1.0", PLAIN, &[host.rpm("a", "1", "Requires: absent >= 2")])
        .await;
    let why = told(package.preflight(None).await);
    assert!(
        why.contains("absent >= 2 is needed by a-1-1.noarch"),
        "{why}"
    );

    host.by_hand(&[&host.rpm("b", "1", "")]);
    let list = host.host.root().join("etc/dnf/plugins/versionlock.list");
    fs::create_dir_all(list.parent().unwrap()).unwrap();
    fs::write(list, "b-0:1-1.*\n").unwrap();
    let (_, package) = host.staged("2.0", PLAIN, &[host.rpm("b", "2", "")]).await;
    let why = told(package.preflight(None).await);
    assert!(why.starts_with("held on this host: b:"), "{why}");
}

#[tokio::test]
async fn a_package_that_a_cut_left_in_two_versions_is_one_again() {
    for forward in [true, false] {
        let Some(host) = RpmHost::new() else { return };
        let (a1, a2) = (host.rpm("a", "1", ""), host.rpm("a", "2", ""));
        let (old, first) = host.staged("1.0", PLAIN, &[a1]).await;
        first.activate(None).await.unwrap();
        let (record, _) = host.staged("2.0", PLAIN, std::slice::from_ref(&a2)).await;
        let package = inner(host.dir(), &record);
        let manager = package.manager().unwrap();
        package.begin(&manager, Some(old.slot())).await.unwrap();
        // rpm was cut off after it had installed the new one, before it erased the old one.
        let root = format!("--root={}", host.host.root().display());
        run(Command::new("rpm").args([&root, "-i", "--force"]).arg(&a2));
        assert_eq!(host.packages(), "a-1-1.noarch a-2-1.noarch");
        let expected = if forward {
            package.activate(Some(&old)).await.unwrap();
            "a-2-1.noarch"
        } else {
            package.roll_back(Some(&old)).await.unwrap();
            "a-1-1.noarch"
        };
        assert_eq!(host.packages(), expected);
    }
}
