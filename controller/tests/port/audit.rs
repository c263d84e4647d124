//! The audit log on a real port: what it says, and that it shows what was done to it.

use comber_controller::core::Refusal;
use comber_controller::store::{Op, Txn};
use comber_model::Digest;
use comber_model::access::{Grants, Role, Scope};
use comber_model::audit::{Actor, Broken, Entry, Head, Sealed, Verifier};
use comber_proto::access::v1::CreateOperatorTokenRequest;
use comber_proto::access::v1::access_service_client::AccessServiceClient;
use comber_proto::audit::v1::WatchAuditRequest;
use comber_proto::audit::v1::audit_service_client::AuditServiceClient;
use comber_proto::host::v1::host_service_client::HostServiceClient;
use comber_proto::host::v1::{LabelHostsRequest, RetireHostRequest};
use comber_proto::rollout::v1::rollout_service_client::RolloutServiceClient;
use comber_proto::rollout::v1::{CreateRolloutRequest, StartRolloutRequest};
use tonic::Code;
use tonic::transport::Channel;

use crate::artifacts::Bundle;
use crate::port::{PATIENCE, Port};

async fn log(port: &Port, asked: WatchAuditRequest) -> Vec<(u64, Sealed)> {
    let mut client = AuditServiceClient::new(port.as_operator().await);
    let mut stream = client.watch_audit(asked).await.unwrap().into_inner();
    let mut entries = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        let entry = message.entry.unwrap();
        let hash = Digest(entry.hash.try_into().unwrap());
        let sealed = Sealed {
            body: entry.body,
            hash,
        };
        entries.push((entry.number, sealed));
    }
    entries
}

async fn all(port: &Port) -> Vec<(u64, Sealed)> {
    log(port, WatchAuditRequest::default()).await
}

fn read(log: &[(u64, Sealed)]) -> Vec<Entry> {
    let entry = |(_, sealed): &(u64, Sealed)| serde_json::from_str(&sealed.body).unwrap();
    log.iter().map(entry).collect()
}

fn verify(log: &[(u64, Sealed)], known: Option<Head>) -> Result<Head, Broken> {
    let mut verifier = Verifier::knowing(known);
    for (number, sealed) in log {
        verifier.take(*number, sealed)?;
    }
    verifier.finish()
}

async fn label(channel: &Channel, host: &str, value: &str) {
    let request = LabelHostsRequest {
        hosts: vec![host.to_owned()],
        set: [("team".to_owned(), value.to_owned())].into(),
        ..LabelHostsRequest::default()
    };
    let mut hosts = HostServiceClient::new(channel.clone());
    hosts.label_hosts(request).await.unwrap();
}

#[tokio::test]
async fn every_change_says_who_from_where_what_before_and_after() {
    let port = Port::open().await;
    let admin = port.as_operator().await;
    Bundle::build(&port, "1").publish(admin.clone()).await;
    port.enrol("web-1").await;
    label(&admin, "web-1", "web").await;
    label(&admin, "web-1", "db").await;
    let spec = "release = \"app@1\"\nselector = \"true\"\n[[wave]]\nhosts = \"rest\"\n".to_owned();
    let mut rollouts = RolloutServiceClient::new(admin.clone());
    let made = rollouts
        .create_rollout(CreateRolloutRequest { spec })
        .await
        .unwrap();
    let id = made.into_inner().rollout.unwrap().id;
    rollouts
        .start_rollout(StartRolloutRequest { id })
        .await
        .unwrap();
    let planned = async {
        loop {
            let entries = read(&all(&port).await);
            let opened = |entry: &&Entry| {
                let after = entry.after.as_deref().unwrap_or_default();
                entry.action == "plan" && after.contains("rollout r1")
            };
            if let Some(plan) = entries.iter().find(opened) {
                return (entries.clone(), plan.clone());
            }
        }
    };
    let (entries, plan) = tokio::time::timeout(PATIENCE, planned)
        .await
        .expect("no plan");
    let of = |object: &str, action: &str| -> Vec<&Entry> {
        let matches = |entry: &&Entry| {
            entry.object.as_deref() == Some(object) && entry.action.ends_with(action)
        };
        entries.iter().filter(matches).collect()
    };
    let labelled = of("host web-1", "HostService/LabelHosts");
    let last = labelled[1];
    assert_eq!(
        (last.actor.kind.as_str(), last.actor.name.as_str()),
        ("operator", "ada")
    );
    assert_eq!(
        (last.actor.role.as_str(), last.actor.proof.as_str()),
        ("operator", "certificate")
    );
    assert!(last.actor.from.starts_with("127.0.0.1:"), "{last:?}");
    assert_eq!(last.before.as_deref(), Some(r#"{"labels":{"team":"web"}}"#));
    assert_eq!(last.after.as_deref(), Some(r#"{"labels":{"team":"db"}}"#));
    let enrolled = of("host web-1", "EnrolmentService/Enrol")[0];
    assert_eq!(
        (enrolled.actor.kind.as_str(), enrolled.before.as_ref()),
        ("stranger", None)
    );
    assert_eq!(of("release app@1", "PublishRelease").len(), 1);
    let started = of("rollout r1", "StartRollout")[0];
    assert!(
        started.before.as_deref().unwrap().contains("draft"),
        "{started:?}"
    );
    assert!(
        started.after.as_deref().unwrap().contains("running"),
        "{started:?}"
    );
    assert_eq!(plan.actor.kind, "planner");
    assert!(plan.records.is_some(), "{plan:?}");
    let operator = of("operator ada", "controller")[0];
    assert!(
        operator.after.as_deref().unwrap().contains("admin"),
        "{operator:?}"
    );
    verify(&all(&port).await, None).unwrap();
    // Filters leave only what is asked for.
    let asked = WatchAuditRequest {
        object: "host web-1".to_owned(),
        actor: "ada".to_owned(),
        ..WatchAuditRequest::default()
    };
    assert_eq!(log(&port, asked).await.len(), 2);
}

#[tokio::test]
async fn no_secret_enters_the_log() {
    let port = Port::open().await;
    let mut access = AccessServiceClient::new(port.as_operator().await);
    let request = CreateOperatorTokenRequest {
        name: "ada".to_owned(),
        ..CreateOperatorTokenRequest::default()
    };
    let token = access
        .create_operator_token(request)
        .await
        .unwrap()
        .into_inner()
        .token;
    let hash = token
        .parse::<comber_runtime::bearer::BearerToken>()
        .unwrap()
        .secret_hash();
    let enrolment = port.token(crate::port::for_hosts()).await;
    let enrolment = comber_runtime::token::SecretHash::of(&enrolment);
    let told = format!("{:?}", all(&port).await);
    assert!(told.contains("CreateOperatorToken"), "{told}");
    for secret in [
        token[6..].to_owned(),
        hash.to_string(),
        enrolment.to_string(),
    ] {
        assert!(!told.contains(&secret), "a secret is in the log");
    }
}

async fn refusals(port: &Port) -> Vec<Entry> {
    let asked = || WatchAuditRequest {
        refused: true,
        ..WatchAuditRequest::default()
    };
    read(&log(port, asked()).await)
}

#[tokio::test]
async fn refused_attempts_are_told_once_and_then_counted() {
    let port = Port::open().await;
    let grants = Grants::new([(Role::Viewer, Scope::Fleet)]).unwrap();
    port.make_operator("vera", grants, &[]).await;
    let viewer = port.as_peer(&port.operator_certificate("vera")).await;
    let mut hosts = HostServiceClient::new(viewer);
    for _ in 0..30 {
        let request = RetireHostRequest {
            id: "web-1".to_owned(),
        };
        let refused = hosts.retire_host(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
    }
    let wrong = port.try_enrol(&[7; 24], "web-1").await.unwrap_err();
    assert_eq!(wrong.code(), Code::Unauthenticated);
    let told = async {
        loop {
            let entries = refusals(&port).await;
            if entries.len() >= 2 {
                return entries;
            }
        }
    };
    let entries = tokio::time::timeout(PATIENCE, told)
        .await
        .expect("not told");
    assert_eq!(entries.len(), 2, "{entries:#?}");
    assert_eq!(
        (
            entries[0].actor.name.as_str(),
            entries[0].actor.from.as_str()
        ),
        ("vera", "127.0.0.1")
    );
    assert!(entries[0].action.ends_with("RetireHost"), "{entries:?}");
    assert!(
        entries[0]
            .refused
            .as_deref()
            .unwrap()
            .contains("vera is viewer")
    );
    assert!(
        entries[1]
            .refused
            .as_deref()
            .unwrap()
            .contains("token is unknown"),
        "{entries:?}"
    );
    // A flood of another kind is bounded, too: the window is long, so that it is still the same.
    for number in 0..=255 {
        port.core.refused(Refusal {
            actor: Actor::of_kind("stranger"),
            address: [10, 0, 0, number].into(),
            rpc: "/x/Y".to_owned(),
            why: "no".to_owned(),
        });
    }
    label(
        &port.as_operator().await,
        &port.enrol_name("web-9").await,
        "x",
    )
    .await;
    assert!(refusals(&port).await.len() <= 20, "a flood is written out");
}

#[tokio::test]
async fn a_changed_a_removed_and_a_cut_off_entry_are_found_and_named() {
    let port = Port::open().await;
    let admin = port.as_operator().await;
    port.enrol("web-1").await;
    for value in ["a", "b", "c", "d"] {
        label(&admin, "web-1", value).await;
    }
    let whole = all(&port).await;
    let head = verify(&whole, None).unwrap();
    let victim = whole[whole.len() - 3].clone();
    let key = |number: u64| format!("/v1/audit/{number:016x}");
    let put = |number: u64, sealed: &Sealed| {
        let value = serde_json::to_vec(&serde_json::json!({"v": 1, "d": sealed})).unwrap();
        let mut txn = Txn::new();
        txn.ops.push(Op::Put {
            key: key(number).into(),
            value: value.into(),
            lease: None,
        });
        port.store.commit(txn).unwrap();
    };
    let remove = |number: u64| {
        port.store.commit(Txn::new().delete(key(number))).unwrap();
    };
    // Changed, as somebody would who can write to the store.
    let mut forged = victim.1.clone();
    forged.body = forged.body.replace("ada", "eve");
    put(victim.0, &forged);
    assert_eq!(
        verify(&all(&port).await, None),
        Err(Broken::Changed(victim.0))
    );
    remove(victim.0);
    assert_eq!(
        verify(&all(&port).await, None),
        Err(Broken::Missing(victim.0, victim.0 + 1))
    );
    put(victim.0, &victim.1);
    assert_eq!(verify(&all(&port).await, Some(head)), Ok(head));
    // Cut off: the chain is whole as far as it goes, and the noted head tells that it went further.
    remove(head.number);
    let cut = all(&port).await;
    assert!(verify(&cut, None).is_ok());
    assert_eq!(
        verify(&cut, Some(head)),
        Err(Broken::EndRemoved(head.number - 1, head.number))
    );
}
