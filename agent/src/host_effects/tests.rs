//! The whole work of an agent on one host, driven as the machine drives it.

use std::collections::VecDeque;
use std::fs;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use comber_model::Digest;
use comber_trust::Directory;
use tokio::sync::watch;

use super::*;
use crate::fetch::{Body, Patience, SourceError};
use crate::link::{LinkView, Pokes, Reach};
use crate::preflight::tests::SmallDisk;
use crate::surroundings::Variables;
use crate::systemd::{Systemd, Use};
use crate::testing::{TestHost, logging, site_at};
use crate::trust::Unverified;

/// Serves files of this machine; everything else is as over the network.
struct Files(Mutex<Vec<Unverified>>);

struct FileBody(u64, VecDeque<Bytes>);

impl Source for Files {
    type Body = FileBody;

    async fn open(&self, digest: &Digest, from: u64) -> Result<FileBody, SourceError> {
        let served = self.0.lock().unwrap();
        let found = served.iter().find(|one| one.artifact.digest == *digest);
        let found = found.ok_or_else(|| SourceError {
            problem: "the server answers 404".to_owned(),
            is_retryable: false,
        })?;
        let bytes = Bytes::from(fs::read(&found.path).unwrap());
        let rest = bytes.slice(usize::try_from(from).unwrap()..);
        Ok(FileBody(from, [rest].into()))
    }
}

impl Body for FileBody {
    fn offset(&self) -> u64 {
        self.0
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, SourceError> {
        Ok(self.1.pop_front())
    }
}

mod whole;

struct World {
    host: TestHost,
    effects: HostEffects<Files>,
}

impl World {
    fn new() -> Self {
        let host = TestHost::new();
        let effects = effects(&host, site_at(host.dir()));
        Self { host, effects }
    }

    /// Publishes a release and says what installing it over `before` means.
    fn release(&self, version: &str, more: &str, before: Option<&Change>) -> Change {
        let recipe = format!(
            "start = {}\nstop = {}\n{more}",
            logging("start"),
            logging("stop")
        );
        self.release_of("webapp", version, &recipe, before)
    }

    fn release_of(
        &self,
        name: &str,
        version: &str,
        recipe: &str,
        before: Option<&Change>,
    ) -> Change {
        let (carried, release) = self.host.bundle(name, version, recipe);
        let artifact = carried.artifact;
        self.host.list(&carried, &release);
        self.effects
            .fetcher
            .source()
            .0
            .lock()
            .unwrap()
            .push(carried);
        Change {
            release,
            action: Action::Install { artifact },
            before: before.map(installed),
            rolls_back: false,
        }
    }

    async fn install(&self, change: &Change) {
        self.effects.fetch(change).await.unwrap();
        self.effects.preflight(change).await.unwrap();
        self.effects.activate(change).await.unwrap();
        assert_eq!(self.effects.verify(change, true).await, Verdict::Passed);
    }

    async fn active(&self, name: &str) -> Option<String> {
        let found = self.effects.inspect().await.unwrap();
        found
            .active
            .get(&name.parse().unwrap())
            .map(|active| active.version.to_string())
    }
}

fn effects(host: &TestHost, site: Site) -> HostEffects<Files> {
    let systemd = Systemd::new(site.exec.clone(), Variables::new(), Use::No);
    let (effects, _) = effects_with(host, site, systemd, Clock::system());
    effects
}

fn effects_with(
    host: &TestHost,
    site: Site,
    systemd: Systemd,
    clock: Clock,
) -> (HostEffects<Files>, watch::Sender<LinkView>) {
    let link = watch::Sender::new(LinkView::default());
    let fetcher = Fetcher::new(
        Files(Mutex::default()),
        &host.state(),
        Patience::default(),
        link.subscribe(),
    );
    let command = vec![
        "touch".to_owned(),
        host.dir().join("rebooted").display().to_string(),
    ];
    fs::write(host.dir().join("boot_id"), "boot-1\n").unwrap();
    let mut reboot = Reboot::new(command, host.dir().join("boot_id"), systemd.clone());
    reboot.need.required_file = host.dir().join("reboot-required");
    let reach = Reach {
        pokes: Pokes::default(),
        view: link.subscribe(),
    };
    let whole = Whole::new(systemd, &host.state(), reach, clock.clone());
    crate::trust::pin(&host.state(), &host.vendor().root()).unwrap();
    let source = Arc::new(Directory(host.vendor().metadata()));
    let trust = Keeper::new(&host.state(), source, Patience::default(), clock.clone());
    let effects = HostEffects::new(site, (fetcher, trust), reboot, whole, clock);
    (effects, link)
}

fn installed(change: &Change) -> Installed {
    let Action::Install { artifact } = &change.action else {
        panic!("{change:?}");
    };
    Installed {
        version: change.release.version.clone(),
        digest: artifact.digest,
        previous: None,
    }
}

fn removal(of: &Change) -> Change {
    Change {
        release: of.release.clone(),
        action: Action::Remove,
        before: Some(installed(of)),
        rolls_back: false,
    }
}

#[tokio::test]
async fn an_update_goes_through_all_steps_and_back() {
    let world = World::new();
    let first = world.release("1.0", "", None);
    world.install(&first).await;
    let second = world.release("2.0", "[timeouts]\nverify = \"7s\"", Some(&first));
    let recipe = world.effects.fetch(&second).await.unwrap();
    assert_eq!(recipe.timeouts.verify, Duration::from_secs(7));
    // Staged already: nobody is asked again.
    world.effects.fetcher.source().0.lock().unwrap().clear();
    assert_eq!(world.effects.fetch(&second).await.unwrap(), recipe);
    assert_eq!(world.effects.verify(&second, false).await, Verdict::Drifted);
    world.install(&second).await;
    assert_eq!(world.active("webapp").await.unwrap(), "2.0");

    world.effects.roll_back(&second).await.unwrap();
    assert_eq!(world.active("webapp").await.unwrap(), "1.0");
    assert_eq!(world.effects.verify(&second, false).await, Verdict::Drifted);
    let found = world.effects.inspect().await.unwrap();
    assert_eq!(found.kept[&first.release.name].len(), 2);

    world
        .effects
        .cleanup(
            &first.release.name,
            std::slice::from_ref(&first.release.version),
        )
        .await;
    let found = world.effects.inspect().await.unwrap();
    assert_eq!(found.kept[&first.release.name].len(), 1);
    let staging = fs::read_dir(world.effects.fetcher.staging()).unwrap();
    assert_eq!(staging.count(), 0);
}

#[tokio::test]
async fn a_removal_and_its_way_back() {
    let world = World::new();
    let first = world.release("1.0", "", None);
    world.install(&first).await;
    let removal = removal(&first);
    world.install(&removal).await;
    assert_eq!(world.active("webapp").await, None);
    world.effects.roll_back(&removal).await.unwrap();
    assert_eq!(world.active("webapp").await.unwrap(), "1.0");
    assert_eq!(world.effects.verify(&removal, true).await, Verdict::Drifted);

    world.install(&removal).await;
    world.effects.cleanup(&first.release.name, &[]).await;
    assert_eq!(world.effects.inspect().await.unwrap(), Found::default());
    // Of a product that was never here.
    world.install(&removal).await;
}

#[tokio::test]
async fn a_check_that_fails_after_activation_is_told() {
    let world = World::new();
    let check = "[[check]]\nname = \"page\"\nexec = { command = [\"sh\", \"-c\", \"echo no page; exit 1\"] }\n\
        interval = \"20ms\"\n[timeouts]\nverify = \"200ms\"";
    let change = world.release("1.0", check, None);
    world.effects.fetch(&change).await.unwrap();
    world.effects.activate(&change).await.unwrap();
    let Verdict::Failed(failure) = world.effects.verify(&change, true).await else {
        panic!("it passed");
    };
    assert_eq!(failure.class, FailureClass::Health);
    assert!(
        failure
            .detail
            .starts_with("check page: sh ended with exit status: 1"),
        "{failure}"
    );
    world.effects.roll_back(&change).await.unwrap();
    assert_eq!(world.active("webapp").await, None);
}

#[tokio::test]
async fn a_check_before_runs_in_the_new_release_and_leaves_the_host_as_it_was() {
    let world = World::new();
    let first = world.release("1.0", "", None);
    world.install(&first).await;
    let check = "[[check]]\nname = \"ready\"\nwhen = \"before\"\ninterval = \"10ms\"\ntimeout = \"200ms\"\n\
        exec = { command = [\"sh\", \"-c\", \"test $(bin/app) = 2.0 && test -e ${LOG}.ready\"] }";
    let second = world.release("2.0", check, Some(&first));
    world.effects.fetch(&second).await.unwrap();
    let failure = world.effects.preflight(&second).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Preflight);
    assert!(failure.detail.starts_with("check ready: "), "{failure}");
    assert_eq!(world.active("webapp").await.unwrap(), "1.0");
    fs::write(world.host.dir().join("log.ready"), "").unwrap();
    world.effects.preflight(&second).await.unwrap();
}

#[tokio::test]
async fn what_a_release_requires_must_be_active() {
    let world = World::new();
    let base = world.release_of("base", "3.1", "", None);
    // Keys before the first table belong to the release itself.
    let (carried, release) =
        world
            .host
            .bundle_with("webapp", "1.0", "requires = [\"base@3.1\"]", "");
    world.host.list(&carried, &release);
    let artifact = carried.artifact;
    world
        .effects
        .fetcher
        .source()
        .0
        .lock()
        .unwrap()
        .push(carried);
    let change = Change {
        release,
        action: Action::Install { artifact },
        before: None,
        rolls_back: false,
    };
    world.effects.fetch(&change).await.unwrap();
    let failure = world.effects.preflight(&change).await.unwrap_err();
    let expected = "base@3.1 must be active on this host before, it is not installed";
    assert_eq!(
        (failure.class, failure.detail.as_str()),
        (FailureClass::Preflight, expected)
    );
    world.install(&base).await;
    world.effects.preflight(&change).await.unwrap();
}

#[tokio::test]
async fn bytes_of_another_release_are_not_staged_and_not_kept() {
    let world = World::new();
    let mut change = world.release("1.0", "", None);
    change.release.version = "9.9".parse().unwrap();
    {
        // Even the publisher's word does not make it another release.
        let served = world.effects.fetcher.source().0.lock().unwrap();
        world.host.list(&served[0], &change.release);
    }
    let failure = world.effects.fetch(&change).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Trust);
    assert!(
        failure.detail.contains("says that it is webapp@1.0"),
        "{failure}"
    );
    assert_eq!(world.effects.inspect().await.unwrap(), Found::default());
    assert_eq!(
        fs::read_dir(world.effects.fetcher.staging())
            .unwrap()
            .count(),
        0
    );
    assert!(!world.host.product().exists());
}

#[tokio::test]
async fn bytes_that_were_exchanged_on_the_way_are_a_matter_of_trust() {
    let world = World::new();
    let change = world.release("1.0", "", None);
    let other = world.release("2.0", "", None);
    {
        let mut served = world.effects.fetcher.source().0.lock().unwrap();
        let path = served[1].path.clone();
        let mut bytes = fs::read(path).unwrap();
        let length = usize::try_from(served[0].artifact.carried_length).unwrap();
        bytes.resize(length, 0);
        fs::write(&served[0].path, bytes).unwrap();
        served.truncate(1);
    }
    let failure = world.effects.fetch(&change).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Trust, "{failure}");
    // The right bytes are taken after all, once they come.
    let (carried, _) = world.host.bundle(
        "webapp",
        "1.0",
        &format!("start = {}\nstop = {}\n", logging("start"), logging("stop")),
    );
    world.effects.fetcher.source().0.lock().unwrap()[0] = carried;
    world.effects.fetch(&change).await.unwrap();
    assert_ne!(change, other);
}

#[tokio::test]
async fn an_artifact_that_is_not_served_is_a_failure_of_the_fetch() {
    let world = World::new();
    let change = world.release("1.0", "", None);
    world.effects.fetcher.source().0.lock().unwrap().clear();
    let failure = world.effects.fetch(&change).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Fetch);
    assert!(failure.detail.contains("404"), "{failure}");
}

#[tokio::test]
async fn a_length_that_nobody_signed_is_refused_before_a_byte_is_fetched() {
    let world = World::new();
    let mut change = world.release("1.0", "", None);
    let Action::Install { artifact } = &mut change.action else {
        panic!("{change:?}");
    };
    artifact.length = 1 << 60;
    let failure = world.effects.fetch(&change).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Trust);
    assert!(
        failure.detail.contains("listed with other bytes"),
        "{failure}"
    );
    assert!(!world.effects.fetcher.staging().exists());
}

#[tokio::test]
async fn a_disk_that_fills_while_unpacking_leaves_nothing_half() {
    let Some(disk) = SmallDisk::mount(64 << 10) else {
        return;
    };
    let host = TestHost::new();
    let verified = host.release("1.0");
    let record = crate::testing::record_of(&verified);
    let mut site = site_at(host.dir());
    site.root = disk.path().to_owned();
    let releases = disk.path().join("opt/webapp/releases");
    fs::create_dir_all(&releases).unwrap();
    let filled = fs::write(disk.path().join("fill"), vec![0; 65 << 10]);
    assert!(filled.is_err(), "the small disk took more than it has");
    let error = site.installer(&record).stage(verified).await.unwrap_err();
    assert!(
        error_chain(&error).contains("No space left"),
        "{}",
        error_chain(&error)
    );
    assert_eq!(fs::read_dir(&releases).unwrap().count(), 0);
    fs::remove_file(disk.path().join("fill")).unwrap();
    site.installer(&record)
        .stage(host.release("1.0"))
        .await
        .unwrap();
}

#[tokio::test]
async fn going_back_to_what_is_lost_is_a_failure_of_the_way_back() {
    let world = World::new();
    let first = world.release("1.0", "", None);
    let second = world.release("2.0", "", Some(&first));
    world.effects.fetch(&second).await.unwrap();
    world.effects.activate(&second).await.unwrap();
    let failure = world.effects.roll_back(&second).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Rollback);
    assert_eq!(failure.detail, "webapp@1.0 is not on this host any more");
}

#[tokio::test]
async fn a_product_neither_moves_nor_takes_anothers_directory() {
    let world = World::new();
    let first = world.release("1.0", "", None);
    world.install(&first).await;
    for (name, expected) in [
        ("webapp", "remove the product first"),
        ("intruder", "belongs to webapp"),
    ] {
        let path = if name == "webapp" {
            "/srv/webapp"
        } else {
            "/opt/webapp/current"
        };
        let (carried, release) = world.host.bundle_at(name, "2.0", path);
        let artifact = carried.artifact;
        world.host.list(&carried, &release);
        world
            .effects
            .fetcher
            .source()
            .0
            .lock()
            .unwrap()
            .push(carried);
        let change = Change {
            release,
            action: Action::Install { artifact },
            before: None,
            rolls_back: false,
        };
        let failure = world.effects.fetch(&change).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Preflight);
        assert!(failure.detail.contains(expected), "{failure}");
    }
    assert_eq!(world.active("webapp").await.unwrap(), "1.0");
}

#[tokio::test]
async fn the_host_may_ask_for_a_reboot_and_is_asked() {
    let world = World::new();
    let change = world.release("1.0", "", None);
    world.effects.fetch(&change).await.unwrap();
    assert!(!world.effects.activate(&change).await.unwrap().needs_reboot);
    fs::write(world.host.dir().join("reboot-required"), "").unwrap();
    assert!(world.effects.activate(&change).await.unwrap().needs_reboot);
    world.effects.reboot(&change.release).await.unwrap();
    assert!(world.host.dir().join("rebooted").exists());
}

#[tokio::test]
async fn what_a_power_cut_left_of_a_fetch_is_fetched_again_and_blames_nobody() {
    let world = World::new();
    let change = world.release("1.0", "", None);
    let Action::Install { artifact } = &change.action else {
        panic!("{change:?}");
    };
    let part = world.effects.fetcher.part(&artifact.digest);
    fs::create_dir_all(world.effects.fetcher.staging()).unwrap();
    // The file has its length and none of its bytes, as some file systems leave it.
    let half = usize::try_from(artifact.carried_length / 2).unwrap();
    fs::write(&part, vec![0; half]).unwrap();
    world.install(&change).await;
    assert!(!part.exists());
    // All of them can be there and be wrong.
    let other = world.release("2.0", "", Some(&change));
    let Action::Install { artifact } = &other.action else {
        panic!("{other:?}");
    };
    let part = world.effects.fetcher.part(&artifact.digest);
    let whole = usize::try_from(artifact.carried_length).unwrap();
    fs::write(&part, vec![0; whole]).unwrap();
    world.install(&other).await;
    assert_eq!(world.active("webapp").await.unwrap(), "2.0");
}
