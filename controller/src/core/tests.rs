//! The core over a real store: what it answers is durable, what it refuses changes nothing.

use std::path::Path;
use std::time::Duration;

use comber_model::release::Manifest;
use comber_model::rollout::RolloutSpec;
use comber_model::{
    AgentState, Artifact, Digest, Facts, Generation, HostId, HostStatus, Labels, ReleaseId,
};
use comber_runtime::peer::PeerIdentity;
use comber_runtime::token::SecretHash;

use super::*;
use crate::pki::tokens::{NamePattern, TokenKind, TokenRecord};
use crate::store::Options;

struct Quiet;

impl Observer for Quiet {
    fn planned(&self, _seconds: f64) {}
}

struct Fixture {
    core: Core,
    store: Store,
    shutdown: Shutdown,
}

impl Fixture {
    fn open(dir: &Path) -> Self {
        let store = Store::open(dir, Options::default()).unwrap();
        let shutdown = Shutdown::new();
        let clock = Clock::system();
        let core = Core::start(store.clone(), clock, &shutdown, Arc::new(Quiet)).unwrap();
        Self {
            core,
            store,
            shutdown,
        }
    }

    async fn token(&self, uses: u32, labels: Labels) -> SecretHash {
        let hash = SecretHash::from_bytes([uses.to_le_bytes()[0]; 32]);
        let now = self.core.clock.steady();
        let record = TokenRecord {
            hash,
            kind: TokenKind::Host,
            uses_left: uses,
            expires: now + Duration::from_hours(1),
            names: NamePattern::any(),
        };
        let token = Token {
            record,
            labels,
            created_by: "ada".into(),
            created_at: now,
        };
        self.core.create_token(token).await.unwrap();
        hash
    }

    async fn enrol(&self, name: &str) -> Result<(), CoreError> {
        let hash = self.token(1, Labels::default()).await;
        self.core
            .enrol(hash, PeerIdentity::Host(name.into()), Digest([1; 32]))
            .await
    }

    async fn stop(self) {
        self.shutdown
            .trigger(comber_runtime::shutdown::Cause::Requested("test".into()));
        self.core.inputs.closed().await;
        self.store.close().unwrap();
    }
}

fn host(name: &str) -> HostId {
    name.parse().unwrap()
}

fn status(generation: u64) -> HostStatus {
    HostStatus {
        generation: Generation(generation),
        state: AgentState::Idle,
        since: Timestamp::UNIX_EPOCH,
        attempt: None,
        installed: std::collections::BTreeMap::new(),
        locally_bad: Vec::new(),
        reports: Vec::new(),
        boot_id: "b".into(),
        agent_version: "0.1.0".into(),
    }
}

fn release(id: &str, byte: u8) -> comber_model::release::Release {
    let id: ReleaseId = id.parse().unwrap();
    let source = format!(
        "name = \"{}\"\nversion = \"{}\"\n[installer]\ntype = \"archive\"\npath = \"/opt/x\"",
        id.name, id.version
    );
    comber_model::release::Release {
        manifest: Manifest::parse(&source).unwrap(),
        artifact: Artifact {
            digest: Digest([byte; 32]),
            length: 1,
            carried_length: 1,
        },
        published_at: Timestamp::UNIX_EPOCH,
        published_by: "ada".into(),
    }
}

fn spec(release: &str) -> RolloutSpec {
    let source =
        format!("release = \"{release}\"\nselector = \"true\"\n[[wave]]\nhosts = \"rest\"");
    RolloutSpec::parse(&source).unwrap()
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    fixture.enrol("web-1").await.unwrap();
    let core = &fixture.core;
    let attachment = core.attach(&host("web-1")).await.unwrap();
    core.report_actual(&host("web-1"), attachment.id(), status(7))
        .await
        .unwrap();
    let facts = Facts {
        kernel: "6.1".into(),
        ..Facts::default()
    };
    core.report_facts(&host("web-1"), facts.clone())
        .await
        .unwrap();
    let set = [("role".to_owned(), "web".to_owned())].into();
    core.label_hosts(vec![host("web-1")], set, Vec::new(), "ada")
        .await
        .unwrap();
    core.publish_release(release("webapp@1", 1)).await.unwrap();
    let id = core.create_rollout(spec("webapp@1"), "ada").await.unwrap();
    let events = core.events(0, 100).await.unwrap();
    drop(attachment);
    fixture.stop().await;

    let fixture = Fixture::open(dir.path());
    assert_eq!(fixture.core.events(0, 100).await.unwrap(), events);
    let world = fixture.core.read().await;
    let view = &world.input.hosts[&host("web-1")];
    assert_eq!(view.status, Some(status(7)));
    assert_eq!(view.host.facts, facts);
    assert_eq!(view.host.labels.get("role"), Some("web"));
    assert!(!view.link.is_up());
    assert!(world.input.rollouts.contains_key(&id));
    assert!(
        world
            .input
            .releases
            .contains_key(&"webapp@1".parse().unwrap())
    );
    drop(world);
    let next = fixture
        .core
        .create_rollout(spec("webapp@1"), "ada")
        .await
        .unwrap();
    assert_eq!(next.0, id.0 + 1, "a rollout's number is never used twice");
    fixture.stop().await;
}

#[tokio::test]
async fn a_token_is_used_as_often_as_it_may_be_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    let labels = Labels::default()
        .edited([("site".to_owned(), "a".to_owned())], [])
        .unwrap();
    let hash = fixture.token(2, labels).await;
    let enrol = |name: &str| {
        fixture
            .core
            .enrol(hash, PeerIdentity::Host(name.into()), Digest([1; 32]))
    };
    let (one, two, three) = tokio::join!(enrol("a"), enrol("b"), enrol("c"));
    assert_eq!(
        [one.is_ok(), two.is_ok(), three.is_ok()],
        [true, true, false]
    );
    let error = three.unwrap_err().to_string();
    assert!(error.contains("used up"), "{error}");
    let world = fixture.core.read().await;
    assert_eq!(world.input.hosts.len(), 2);
    assert_eq!(
        world.input.hosts[&host("a")].host.labels.get("site"),
        Some("a")
    );
    drop(world);
    fixture.stop().await;
}

#[tokio::test]
async fn a_second_stream_ends_the_first_and_what_the_first_says_is_not_heard() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    fixture.enrol("web-1").await.unwrap();
    let core = &fixture.core;
    let mut first = core.attach(&host("web-1")).await.unwrap();
    core.report_actual(&host("web-1"), first.id(), status(1))
        .await
        .unwrap();
    let second = core.attach(&host("web-1")).await.unwrap();
    assert_eq!(first.changed().await, Err(Ending::Replaced));
    core.report_actual(&host("web-1"), second.id(), status(3))
        .await
        .unwrap();
    let late = core
        .report_actual(&host("web-1"), first.id(), status(2))
        .await;
    assert!(matches!(late, Err(CoreError::Refused(_))), "{late:?}");
    drop(first);
    assert_eq!(core.edit(|edit| Ok(edit.world.streams())).await.unwrap(), 1);
    assert!(core.read().await.input.hosts[&host("web-1")].link.is_up());
    assert_eq!(
        core.read().await.input.hosts[&host("web-1")].status,
        Some(status(3))
    );
    fixture.stop().await;
}

#[tokio::test]
async fn a_retired_host_is_cut_off_and_refused() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    fixture.enrol("web-1").await.unwrap();
    let mut attachment = fixture.core.attach(&host("web-1")).await.unwrap();
    fixture
        .core
        .retire_host(&host("web-1"), "ada")
        .await
        .unwrap();
    assert_eq!(attachment.changed().await, Err(Ending::Retired));
    let refused = fixture
        .core
        .attach(&host("web-1"))
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("enrol it again"), "{refused}");
    fixture.stop().await;
}

#[tokio::test]
async fn a_refused_edit_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    fixture.enrol("web-1").await.unwrap();
    let core = &fixture.core;
    core.publish_release(release("webapp@1", 1)).await.unwrap();
    let before = core.events(0, 100).await.unwrap();

    let missing = core
        .create_rollout(spec("webapp@2"), "ada")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        missing.starts_with("release: webapp@2 is not published"),
        "{missing}"
    );
    let other = core
        .publish_release(release("webapp@1", 2))
        .await
        .unwrap_err()
        .to_string();
    assert!(other.contains("raise the version"), "{other}");
    assert!(
        core.publish_release(release("webapp@1", 1)).await.unwrap(),
        "same bytes are fine"
    );
    let set = [("role".to_owned(), "web".to_owned())].into();
    let hosts = vec![host("web-1"), host("web-2")];
    let unknown = core
        .label_hosts(hosts, set, Vec::new(), "ada")
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(unknown, "there is no host web-2");
    let none = core
        .delete_release(&"webapp@9".parse().unwrap(), "ada")
        .await;
    assert!(matches!(none, Err(CoreError::NotFound { .. })), "{none:?}");

    assert!(
        core.read().await.input.hosts[&host("web-1")]
            .host
            .labels
            .is_empty()
    );
    assert_eq!(core.events(0, 100).await.unwrap(), before);
    fixture.stop().await;
}

#[tokio::test]
async fn a_release_that_a_rollout_needs_stays() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    let core = &fixture.core;
    let id: ReleaseId = "webapp@1".parse().unwrap();
    core.publish_release(release("webapp@1", 1)).await.unwrap();
    let rollout = core.create_rollout(spec("webapp@1"), "ada").await.unwrap();
    let refused = core
        .delete_release(&id, "ada")
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains(&rollout.to_string()), "{refused}");
    core.command(rollout, comber_planner::Command::Abort, "ada")
        .await
        .unwrap();
    assert_eq!(
        core.delete_release(&id, "ada").await.unwrap(),
        Digest([1; 32])
    );
    fixture.stop().await;
}
