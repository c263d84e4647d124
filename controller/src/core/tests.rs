//! The core over a real store: what it answers is durable, what it refuses changes nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use comber_model::release::Manifest;
use comber_model::rollout::RolloutSpec;
use comber_model::{
    AgentState, Artifact, Digest, Facts, Generation, HostId, HostStatus, Labels, ReleaseId,
};
use comber_runtime::peer::PeerIdentity;
use comber_runtime::token::SecretHash;
use comber_trust::{Signer as _, SigningKey};
use serde_json::json;

use super::*;
use crate::pki::tokens::{NamePattern, TokenKind, TokenRecord};
use crate::store::Options;

struct Quiet;

impl Observer for Quiet {
    fn planned(&self, _seconds: f64) {}
}

pub(super) struct Fixture {
    pub(super) core: Core,
    pub(super) store: Store,
    shutdown: Shutdown,
}

impl Fixture {
    pub(super) fn open(dir: &Path) -> Self {
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
            grants: None,
        };
        self.core.create_token(token).await.unwrap();
        hash
    }

    pub(super) async fn enrol(&self, name: &str) -> Result<(), CoreError> {
        let hash = self.token(1, Labels::default()).await;
        self.core
            .enrol(hash, PeerIdentity::Host(name.into()), certificate(1))
            .await
    }

    /// The publisher lists `webapp@1` with the bytes of `release("webapp@1", 1)`.
    pub(super) async fn list(&self) {
        let before = self.core.read().await.trust.clone();
        self.core
            .keep_trust(before, listing(1, &["1"]))
            .await
            .unwrap();
    }

    pub(super) async fn stop(self) {
        self.shutdown
            .trigger(comber_runtime::shutdown::Cause::Requested("test".into()));
        self.core.inputs.closed().await;
        self.store.close().unwrap();
    }
}

pub(super) fn host(name: &str) -> HostId {
    name.parse().unwrap()
}

/// One that was issued in this second of 1970.
fn certificate(second: i64) -> Certificate {
    Certificate {
        fingerprint: Digest([u8::try_from(second).unwrap(); 32]),
        not_before: Timestamp::from_second(second).unwrap(),
        issued: comber_model::IssuedCertificate {
            serial: format!("{second:02x}"),
            not_after: "2099-01-01T00:00:00Z".parse().unwrap(),
            ca: Digest([0xca; 32]),
        },
    }
}

fn status(generation: u64) -> HostStatus {
    HostStatus {
        generation: Generation(generation),
        state: AgentState::Idle,
        since: Timestamp::UNIX_EPOCH,
        attempt: None,
        installed: BTreeMap::new(),
        locally_bad: Vec::new(),
        reports: Vec::new(),
        boot_id: "b".into(),
        agent_version: "0.1.0".into(),
    }
}

pub(super) fn release(id: &str, byte: u8) -> comber_model::release::Release {
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

/// Metadata as the core keeps it after somebody has verified it: versions of `webapp`, each with the bytes and the counter
/// of its number.
pub(super) fn listing(version: u64, webapps: &[&str]) -> Kept {
    let key = SigningKey::generate().unwrap();
    let public = key.public();
    let id = comber_trust::key_id(&public).unwrap();
    let role = |kind: &str, more: serde_json::Value| {
        let mut signed = json!({
            "_type": kind, "spec_version": "1.0.31", "version": version, "expires": "2099-01-01T00:00:00Z",
        });
        let fields = signed.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        // Sorted and without spaces, as signatures are made of it.
        let signature = key.sign(signed.to_string().as_bytes()).unwrap();
        json!({"signed": signed, "signatures": [signature]}).to_string()
    };
    let target = |number: &&str| {
        let digest = format!("{:02x}", number.parse::<u8>().unwrap()).repeat(32);
        let release = json!({
            "product": "webapp", "version": number, "counter": number.parse::<u64>().unwrap(), "rollback_ok": true,
        });
        let target =
            json!({"length": 1, "hashes": {"sha256": digest}, "custom": {"release": release}});
        (format!("webapp-{number}.rel"), target)
    };
    let targets: serde_json::Map<_, _> = webapps.iter().map(target).collect();
    let by_it = json!({"keyids": [&id], "threshold": 1});
    let keys: BTreeMap<_, _> = [(id, &public)].into();
    let roles = json!({"root": by_it, "timestamp": by_it, "snapshot": by_it, "targets": by_it});
    let root = json!({"consistent_snapshot": true, "keys": keys, "roles": roles});
    let listed = |name: &str| json!({"meta": {name: {"version": version}}});
    Kept {
        timestamp: Some(role("timestamp", listed("snapshot.json"))),
        snapshot: Some(role("snapshot", listed("targets.json"))),
        targets: Some(role("targets", json!({"targets": targets}))),
        ..Kept::pinned(
            Digest([7; 32]),
            (version, role("root", root)),
            Timestamp::UNIX_EPOCH,
            "ada",
        )
    }
}

#[tokio::test]
async fn what_the_publisher_lists_is_there_after_a_restart_and_decides_what_is_rolled_out() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    let core = &fixture.core;
    let refused = core.publish_release(release("webapp@1", 1)).await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("webapp@1 is not listed: no publisher's root"),
        "{refused}"
    );
    fixture.list().await;
    let other = core.publish_release(release("webapp@1", 9)).await;
    let other = other.unwrap_err().to_string();
    assert!(other.contains("not listed with these bytes"), "{other}");
    core.publish_release(release("webapp@1", 1)).await.unwrap();
    fixture.enrol("web-1").await.unwrap();
    let draft = core.create_rollout(spec("webapp@1"), "ada").await.unwrap();
    let running = core.create_rollout(spec("webapp@1"), "ada").await.unwrap();
    core.command(running, comber_planner::Command::Start, "ada")
        .await
        .unwrap();
    fixture.stop().await;

    let fixture = Fixture::open(dir.path());
    let core = &fixture.core;
    let before = core.read().await.trust.clone();
    let id: ReleaseId = "webapp@1".parse().unwrap();
    assert_eq!(before.as_ref().unwrap().counter(&id), 1);
    // Withdrawn: what runs waits for a person, and nothing new begins.
    let stale = core.keep_trust(None, listing(2, &["2"])).await.unwrap_err();
    assert!(stale.to_string().contains("import again"), "{stale}");
    core.keep_trust(before, listing(2, &["2"])).await.unwrap();
    let withdrawn = core.create_rollout(spec("webapp@1"), "ada").await;
    let withdrawn = withdrawn.unwrap_err().to_string();
    assert!(
        withdrawn.contains("webapp@1 is not listed any more"),
        "{withdrawn}"
    );
    let start = core.command(draft, comber_planner::Command::Start, "ada");
    assert!(start.await.is_err());
    let world = core.read().await;
    let after = world.input.rollouts[&running].rollout.state;
    assert_eq!(after, comber_model::rollout::RolloutState::Paused);
    drop(world);
    fixture.stop().await;
}

#[tokio::test]
async fn a_list_of_many_releases_is_kept_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    let mut kept = listing(1, &["1"]);
    // Far more than one value of the store, with a letter on every edge.
    kept.roots.insert(0, "ü\"".repeat(100_000));
    let kept = fixture.core.keep_trust(None, kept).await.unwrap();
    fixture.stop().await;
    let fixture = Fixture::open(dir.path());
    let found = fixture.core.read().await.trust.clone().unwrap();
    assert_eq!(found, kept);
    // Pieces of an import that a crash cut off are swept, and those that count stay.
    let mut small = found.kept.clone();
    small.roots.remove(&0);
    fixture.core.keep_trust(Some(found), small).await.unwrap();
    let pieces = fixture.store.range(b"/v1/trust/set/", None, 100).unwrap();
    assert_eq!(pieces.items.len(), 1);
    fixture.stop().await;
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
    fixture.list().await;
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
            .enrol(hash, PeerIdentity::Host(name.into()), certificate(1))
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
    assert!(refused.contains("was retired; enrol it"), "{refused}");
    fixture.stop().await;
}

#[tokio::test]
async fn a_refused_edit_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    fixture.enrol("web-1").await.unwrap();
    let core = &fixture.core;
    fixture.list().await;
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
    fixture.list().await;
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

#[tokio::test]
async fn a_certificate_from_before_the_last_enrolment_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    let (core, web) = (&fixture.core, host("web-1"));
    let peer = || PeerIdentity::Host("web-1".into());
    let hash = fixture.token(2, Labels::default()).await;
    core.enrol(hash, peer(), certificate(100)).await.unwrap();
    let first = certificate(100).not_before;
    core.read().await.admit(&web, first).unwrap();
    // One that follows by renewal, and the one it was renewed with, which the host may not have replaced yet.
    core.renewed(&web, certificate(150)).await.unwrap();
    let renewed = Timestamp::from_second(150).unwrap();
    for begin in [first, renewed] {
        core.read().await.admit(&web, begin).unwrap();
    }
    core.retire_host(&web, "ada").await.unwrap();
    let refused = core.read().await.admit(&web, renewed).unwrap_err();
    assert!(matches!(refused, CoreError::Denied(_)), "{refused}");
    // Taken in again on another machine: what the first one holds stays worthless.
    core.enrol(hash, peer(), certificate(200)).await.unwrap();
    for (begin, lets_in) in [(100, false), (150, false), (200, true), (300, true)] {
        let begin = Timestamp::from_second(begin).unwrap();
        let admitted = core.read().await.admit(&web, begin).is_ok();
        assert_eq!(admitted, lets_in, "{begin}");
    }
    let stranger = core.read().await.admit(&host("db-1"), renewed).unwrap_err();
    assert!(
        stranger.to_string().contains("not known here"),
        "{stranger}"
    );
    fixture.stop().await;
}

#[tokio::test]
async fn a_token_says_beforehand_whom_it_would_let_in() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    let hash = fixture.token(1, Labels::default()).await;
    let core = &fixture.core;
    let web = PeerIdentity::Host("web-1".into());
    core.would_enrol(hash, &web).await.unwrap();
    core.would_enrol(hash, &web).await.unwrap();
    core.enrol(hash, web.clone(), certificate(1)).await.unwrap();
    let unknown = SecretHash::from_bytes([7; 32]);
    let ada = PeerIdentity::Operator("ada".into());
    for (secret, peer) in [(hash, &web), (hash, &ada), (unknown, &web)] {
        let refused = core.would_enrol(secret, peer).await.unwrap_err();
        assert!(
            matches!(refused, CoreError::Unauthenticated(_)),
            "{refused}"
        );
    }
    fixture.stop().await;
}

#[tokio::test]
async fn a_release_that_hosts_run_stays() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    fixture.enrol("web-1").await.unwrap();
    let core = &fixture.core;
    fixture.list().await;
    core.publish_release(release("webapp@1", 1)).await.unwrap();
    let attachment = core.attach(&host("web-1")).await.unwrap();
    let installed = comber_model::Installed {
        version: "1".parse().unwrap(),
        digest: Digest([1; 32]),
        previous: None,
    };
    let mut status = status(0);
    status
        .installed
        .insert("webapp".parse().unwrap(), installed);
    core.report_actual(&host("web-1"), attachment.id(), status)
        .await
        .unwrap();
    let id: ReleaseId = "webapp@1".parse().unwrap();
    let refused = core
        .delete_release(&id, "ada")
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("1 hosts run it"), "{refused}");
    core.retire_host(&host("web-1"), "ada").await.unwrap();
    core.delete_release(&id, "ada").await.unwrap();
    fixture.stop().await;
}
