//! Operators on a real port: roles, scopes, tokens, revocation, and those from before there were records of them.

use std::time::Duration;

use comber_controller::api::access::{Needs, Reaches, TABLE};
use comber_controller::store::{Op, Options, Store, Txn};
use comber_model::access::{Grants, Role, Scope};
use comber_proto::access::v1::access_service_client::AccessServiceClient;
use comber_proto::access::v1::{
    CreateOperatorRequest, CreateOperatorTokenRequest, GetOperatorRequest, Grant,
    ListOperatorsRequest, RevokeOperatorRequest, RevokeOperatorTokenRequest,
};
use comber_proto::codec::SmallCodec;
use comber_proto::enrolment::v1::enrolment_service_client::EnrolmentServiceClient;
use comber_proto::enrolment::v1::{CreateTokenRequest, EnrolRequest, IdentityKind};
use comber_proto::event::v1::WatchEventsRequest;
use comber_proto::event::v1::event_service_client::EventServiceClient;
use comber_proto::host::v1::host_service_client::HostServiceClient;
use comber_proto::host::v1::{LabelHostsRequest, ListHostsRequest, RetireHostRequest};
use comber_proto::rollout::v1::rollout_service_client::RolloutServiceClient;
use comber_proto::rollout::v1::{
    AbortRolloutRequest, CreateRolloutRequest, ListMembersRequest, PreviewRolloutRequest,
    StartRolloutRequest,
};
use comber_runtime::identity::{Identity, PrivateKey, make_csr};
use comber_runtime::token::Token;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use crate::artifacts::Bundle;
use crate::port::{PATIENCE, Port};

/// Calls an rpc by its path with an empty message.
async fn call(channel: &Channel, path: &'static str) -> Result<(), Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static(path);
    let codec = SmallCodec::<(), ()>::default();
    let answer = client.unary(Request::new(()), path, codec).await;
    answer.map(drop)
}

/// Everything that a call could change.
async fn state(port: &Port) -> String {
    let world = port.core.read().await;
    format!("{:?} {:?} {:?}", world.input, world.tokens, world.operators)
}

/// A channel with a bearer token for each call.
fn bearing<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

async fn as_operator(port: &Port, name: &str, role: Role, scope: &str) -> Channel {
    let scope = (!scope.is_empty()).then(|| scope.to_owned());
    let grants = Grants::new([(role, Scope::from(scope))]).unwrap();
    port.make_operator(name, grants, &[]).await;
    port.as_peer(&port.operator_certificate(name)).await
}

async fn label(channel: &Channel, host: &str, pair: (&str, &str)) -> Result<(), Status> {
    let request = LabelHostsRequest {
        hosts: vec![host.to_owned()],
        set: [(pair.0.to_owned(), pair.1.to_owned())].into(),
        ..LabelHostsRequest::default()
    };
    let mut hosts = HostServiceClient::new(channel.clone());
    hosts.label_hosts(request).await.map(drop)
}

async fn list(channel: &Channel) -> Result<u32, Status> {
    let mut hosts = HostServiceClient::new(channel.clone());
    let answer = hosts.list_hosts(ListHostsRequest::default()).await?;
    Ok(answer.into_inner().total)
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, says: &str) {
    let status = result.unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(says), "{status}");
}

#[tokio::test]
async fn a_viewer_can_change_nothing() {
    let port = Port::open().await;
    port.enrol("web-1").await;
    let viewer = as_operator(&port, "vera", Role::Viewer, "").await;
    let admin = port.as_operator().await;
    let before = state(&port).await;
    let mut tried = 0;
    for row in TABLE {
        let changes = matches!(row.reaches, Reaches::Hosts | Reaches::Fleet);
        if changes || row.needs == Needs::Host {
            refused(
                call(&viewer, row.path).await,
                Code::PermissionDenied,
                "vera",
            );
            tried += 1;
        }
        // The same call by somebody who may is refused for another reason, or carried out.
        if changes && let Err(status) = call(&admin, row.path).await {
            assert_ne!(
                status.code(),
                Code::PermissionDenied,
                "{}: {status}",
                row.path
            );
        }
    }
    assert!(tried > 15, "only {tried} were tried");
    assert_eq!(state(&port).await, before);
    assert_eq!(list(&viewer).await.unwrap(), 1);
}

#[tokio::test]
async fn each_role_does_its_own_part() {
    let port = Port::open().await;
    port.enrol("web-1").await;
    let publisher = as_operator(&port, "pia", Role::Publisher, "").await;
    Bundle::build(&port, "1").publish(publisher.clone()).await;
    refused(
        label(&publisher, "web-1", ("a", "b")).await,
        Code::PermissionDenied,
        "the role operator; pia is publisher",
    );
    let operator = as_operator(&port, "otto", Role::Operator, "").await;
    label(&operator, "web-1", ("a", "b")).await.unwrap();
    let mut access = AccessServiceClient::new(operator.clone());
    let request = CreateOperatorRequest {
        name: "mallory".to_owned(),
        grants: vec![Grant {
            role: "admin".to_owned(),
            ..Grant::default()
        }],
        ..CreateOperatorRequest::default()
    };
    refused(
        access.create_operator(request).await,
        Code::PermissionDenied,
        "role admin",
    );
    // Whoever may let hosts in may not let operators in.
    let mut enrolment = EnrolmentServiceClient::new(operator);
    let mut request = CreateTokenRequest {
        kind: IdentityKind::Host.into(),
        ..CreateTokenRequest::default()
    };
    enrolment.create_token(request.clone()).await.unwrap();
    request.kind = IdentityKind::Operator.into();
    refused(
        enrolment.create_token(request).await,
        Code::PermissionDenied,
        "role admin",
    );
}

const WEB: &str = "labels.team == \"web\"";

fn file(selector: &str) -> CreateRolloutRequest {
    let spec =
        format!("release = \"app@1\"\nselector = '{selector}'\n[[wave]]\nhosts = \"rest\"\n");
    CreateRolloutRequest { spec }
}

async fn scoped() -> (Port, Channel, Channel) {
    let port = Port::open().await;
    let admin = port.as_operator().await;
    Bundle::build(&port, "1").publish(admin.clone()).await;
    for (host, team) in [("web-1", "web"), ("web-2", "web"), ("db-1", "db")] {
        port.enrol(host).await;
        label(&admin, host, ("team", team)).await.unwrap();
    }
    let web = as_operator(&port, "wanda", Role::Operator, WEB).await;
    (port, admin, web)
}

#[tokio::test]
async fn an_operator_of_some_hosts_touches_only_these() {
    let (port, _admin, web) = scoped().await;
    label(&web, "web-1", ("rack", "7")).await.unwrap();
    refused(
        label(&web, "db-1", ("rack", "7")).await,
        Code::PermissionDenied,
        "db-1 is outside the scope of wanda",
    );
    // Neither can it take a host in nor give one away.
    refused(
        label(&web, "db-1", ("team", "web")).await,
        Code::PermissionDenied,
        "outside",
    );
    refused(
        label(&web, "web-1", ("team", "db")).await,
        Code::PermissionDenied,
        "would be outside",
    );
    let mut hosts = HostServiceClient::new(web.clone());
    let retire = |id: &str| RetireHostRequest { id: id.to_owned() };
    refused(
        hosts.retire_host(retire("db-1")).await,
        Code::PermissionDenied,
        "outside",
    );
    hosts.retire_host(retire("web-2")).await.unwrap();
    // What concerns the whole fleet is not for it.
    let freeze = call(&web, "/comber.freeze.v1.FreezeService/AddFreeze").await;
    refused(freeze, Code::PermissionDenied, "the whole fleet");
    let world = port.core.read().await;
    let db = world.active_host(&"db-1".parse().unwrap()).unwrap();
    assert_eq!(db.host.labels.iter().collect::<Vec<_>>(), [("team", "db")]);
}

#[tokio::test]
async fn a_rollout_reaches_only_its_authors_hosts_now_and_later() {
    let (port, admin, web) = scoped().await;
    let mut rollouts = RolloutServiceClient::new(web.clone());
    let wide = file("true");
    let preview = PreviewRolloutRequest {
        spec: wide.spec.clone(),
    };
    refused(
        rollouts.preview_rollout(preview).await,
        Code::PermissionDenied,
        "selects db-1",
    );
    refused(
        rollouts.create_rollout(wide).await,
        Code::PermissionDenied,
        "write: (true) && (labels.team",
    );
    // No host outside is selected now; one will be.
    let made = rollouts
        .create_rollout(file("labels.team == \"web\" || labels.tier == \"gold\""))
        .await;
    let id = made.unwrap().into_inner().rollout.unwrap().id;
    rollouts
        .start_rollout(StartRolloutRequest { id: id.clone() })
        .await
        .unwrap();
    label(&admin, "db-1", ("tier", "gold")).await.unwrap();
    port.enrol("web-3").await;
    label(&admin, "web-3", ("team", "web")).await.unwrap();
    let wanted = vec!["web-1", "web-2", "web-3"];
    let joined = async {
        loop {
            let request = ListMembersRequest {
                id: id.clone(),
                ..ListMembersRequest::default()
            };
            let members = rollouts
                .list_members(request)
                .await
                .unwrap()
                .into_inner()
                .members;
            let mut hosts: Vec<_> = members.into_iter().map(|member| member.host).collect();
            hosts.sort();
            assert!(!hosts.contains(&"db-1".to_owned()), "{hosts:?}");
            if hosts == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, joined)
        .await
        .expect("web-3 does not join");
    // Another's rollout that has hosts outside is not its to stop.
    let mut admins = RolloutServiceClient::new(admin);
    let made = admins
        .create_rollout(file("true"))
        .await
        .unwrap()
        .into_inner();
    let abort = AbortRolloutRequest {
        id: made.rollout.unwrap().id,
    };
    refused(
        rollouts.abort_rollout(abort).await,
        Code::PermissionDenied,
        "reaches db-1",
    );
    rollouts
        .abort_rollout(AbortRolloutRequest { id })
        .await
        .unwrap();
}

async fn token(port: &Port, name: &str, ttl: Duration) -> (String, String) {
    let mut access = AccessServiceClient::new(port.as_operator().await);
    let request = CreateOperatorTokenRequest {
        name: name.to_owned(),
        ttl: Some(comber_model::wire::time::to_span(ttl)),
        purpose: "test".to_owned(),
    };
    let made = access
        .create_operator_token(request)
        .await
        .unwrap()
        .into_inner();
    (made.token, made.record.unwrap().id)
}

#[tokio::test]
async fn a_token_proves_its_operator_until_it_is_revoked_or_ends() {
    let port = Port::open().await;
    as_operator(&port, "ci", Role::Viewer, "").await;
    let (text, id) = token(&port, "ci", Duration::from_hours(1)).await;
    let stranger = port.as_stranger().await;
    let mut access = AccessServiceClient::new(stranger.clone());
    let me = access
        .get_operator(bearing(GetOperatorRequest::default(), &text))
        .await;
    let me = me.unwrap().into_inner().operator.unwrap();
    assert_eq!((me.name.as_str(), me.tokens.len()), ("ci", 1));
    let mut hosts = HostServiceClient::new(stranger.clone());
    hosts
        .list_hosts(bearing(ListHostsRequest::default(), &text))
        .await
        .unwrap();
    let retire = RetireHostRequest {
        id: "web-1".to_owned(),
    };
    refused(
        hosts.retire_host(bearing(retire, &text)).await,
        Code::PermissionDenied,
        "ci is viewer",
    );
    // A certificate and a token at once leave open who is meant.
    let mut both = HostServiceClient::new(port.as_operator().await);
    let request = bearing(ListHostsRequest::default(), &text);
    refused(
        both.list_hosts(request).await,
        Code::Unauthenticated,
        "at once",
    );

    let (other, _) = token(&port, "ci", Duration::from_hours(9)).await;
    let mut admins = AccessServiceClient::new(port.as_operator().await);
    let revoke = RevokeOperatorTokenRequest {
        name: "ci".to_owned(),
        id,
    };
    admins.revoke_operator_token(revoke).await.unwrap();
    let request = bearing(ListHostsRequest::default(), &text);
    refused(
        hosts.list_hosts(request).await,
        Code::Unauthenticated,
        "was revoked",
    );
    hosts
        .list_hosts(bearing(ListHostsRequest::default(), &other))
        .await
        .unwrap();
    port.hand.advance(Duration::from_hours(10));
    let request = bearing(ListHostsRequest::default(), &other);
    refused(
        hosts.list_hosts(request).await,
        Code::Unauthenticated,
        "ended",
    );
    let unknown = comber_runtime::bearer::BearerToken::generate(port.ca.pin()).unwrap();
    let request = bearing(ListHostsRequest::default(), &unknown.reveal());
    refused(
        hosts.list_hosts(request).await,
        Code::Unauthenticated,
        "unknown",
    );
    let stored = state(&port).await;
    assert!(!stored.contains(&text[6..40]), "the token is kept");
}

async fn follow(
    channel: Channel,
    token: Option<&str>,
) -> Streaming<comber_proto::event::v1::WatchEventsResponse> {
    let follow = WatchEventsRequest {
        follow: true,
        ..WatchEventsRequest::default()
    };
    let request = match token {
        Some(token) => bearing(follow, token),
        None => Request::new(follow),
    };
    let mut events = EventServiceClient::new(channel);
    events.watch_events(request).await.unwrap().into_inner()
}

/// How a stream ends.
async fn end(mut stream: Streaming<comber_proto::event::v1::WatchEventsResponse>) -> Status {
    let ended = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok("closed"),
                Err(status) => return status,
            }
        }
    };
    tokio::time::timeout(PATIENCE, ended)
        .await
        .expect("the stream goes on")
}

#[tokio::test]
async fn what_a_revoked_operator_watches_ends() {
    let port = Port::open().await;
    let channel = as_operator(&port, "vera", Role::Viewer, "").await;
    as_operator(&port, "ci", Role::Viewer, "").await;
    let (text, id) = token(&port, "ci", Duration::from_hours(1)).await;
    let by_certificate = follow(channel.clone(), None).await;
    let by_token = follow(port.as_stranger().await, Some(&text)).await;
    let ending = follow(
        port.as_stranger().await,
        Some(&token(&port, "ci", Duration::from_mins(1)).await.0),
    )
    .await;
    let staying = follow(port.as_operator().await, None).await;
    let mut admins = AccessServiceClient::new(port.as_operator().await);
    let request = RevokeOperatorRequest {
        name: "vera".to_owned(),
    };
    admins.revoke_operator(request).await.unwrap();
    refused(
        Err::<(), _>(end(by_certificate).await),
        Code::Unauthenticated,
        "vera was revoked",
    );
    refused(
        list(&channel).await,
        Code::Unauthenticated,
        "vera was revoked",
    );
    let request = RevokeOperatorTokenRequest {
        name: "ci".to_owned(),
        id,
    };
    admins.revoke_operator_token(request).await.unwrap();
    refused(
        Err::<(), _>(end(by_token).await),
        Code::Unauthenticated,
        "was revoked",
    );
    port.hand.advance(Duration::from_mins(2));
    refused(
        Err::<(), _>(end(ending).await),
        Code::Unauthenticated,
        "ended",
    );
    let mut staying = staying;
    assert!(
        staying.message().await.unwrap().is_some(),
        "an admin's stream was cut, too"
    );
    // Made again, only what it gets from now on proves it.
    as_operator(&port, "vera", Role::Viewer, "").await;
    refused(list(&channel).await, Code::Unauthenticated, "made again");
}

async fn enrol(port: &Port, secret: &[u8], name: &str) -> Result<Identity, Status> {
    let key = PrivateKey::generate().unwrap();
    let request = EnrolRequest {
        secret: secret.to_vec(),
        name: name.to_owned(),
        kind: IdentityKind::Operator.into(),
        signing_request: make_csr(&key, name).unwrap(),
    };
    let mut client = EnrolmentServiceClient::new(port.as_stranger().await);
    let answer = client.enrol(request).await?.into_inner();
    Ok(Identity::new(key, answer.certificate_chain, answer.ca).unwrap())
}

#[tokio::test]
async fn a_token_for_operators_enrols_those_that_were_made() {
    let port = Port::open().await;
    let mut client = EnrolmentServiceClient::new(port.as_operator().await);
    let request = CreateTokenRequest {
        kind: IdentityKind::Operator.into(),
        uses: 9,
        ..CreateTokenRequest::default()
    };
    let made = client.create_token(request).await.unwrap().into_inner();
    let secret = made.token.parse::<Token>().unwrap();
    let secret = secret.secret();
    refused(
        enrol(&port, secret, "anna").await,
        Code::PermissionDenied,
        "comber operator create anna",
    );
    as_operator(&port, "anna", Role::Viewer, "").await;
    let anna = enrol(&port, secret, "anna").await.unwrap();
    let anna = port.as_peer(&anna).await;
    list(&anna).await.unwrap();
    refused(
        label(&anna, "x", ("a", "b")).await,
        Code::PermissionDenied,
        "viewer",
    );
    // After a revocation a new certificate counts, and the old one does not.
    let mut admins = AccessServiceClient::new(port.as_operator().await);
    let request = RevokeOperatorRequest {
        name: "anna".to_owned(),
    };
    admins.revoke_operator(request).await.unwrap();
    refused(
        enrol(&port, secret, "anna").await,
        Code::Unauthenticated,
        "revoked",
    );
    as_operator(&port, "anna", Role::Viewer, "").await;
    port.hand.advance(Duration::from_secs(5));
    let again = enrol(&port, secret, "anna").await.unwrap();
    list(&port.as_peer(&again).await).await.unwrap();
    refused(list(&anna).await, Code::Unauthenticated, "made again");
}

#[tokio::test]
async fn the_last_admin_stays() {
    let port = Port::open().await;
    let mut admins = AccessServiceClient::new(port.as_operator().await);
    let revoke = |name: &str| RevokeOperatorRequest {
        name: name.to_owned(),
    };
    let oneself = admins.revoke_operator(revoke("ada")).await;
    refused(oneself, Code::FailedPrecondition, "another admin");
    let request = CreateOperatorRequest {
        name: "ada".to_owned(),
        grants: vec![Grant {
            role: "viewer".to_owned(),
            ..Grant::default()
        }],
        replace: true,
        ..CreateOperatorRequest::default()
    };
    let oneself = admins.create_operator(request).await;
    refused(oneself, Code::FailedPrecondition, "another admin");
    let last = port.core.revoke_operator("ada", "the controller").await;
    assert!(last.unwrap_err().to_string().contains("last admin"));
    port.make_operator("bob", Grants::admin(), &[]).await;
    let mut bobs = AccessServiceClient::new(port.as_peer(&port.operator_certificate("bob")).await);
    bobs.revoke_operator(revoke("ada")).await.unwrap();
    let refusal = admins.list_operators(ListOperatorsRequest {}).await;
    refused(refusal, Code::Unauthenticated, "ada was revoked");
}

#[tokio::test]
async fn operators_from_before_the_records_keep_working_and_can_be_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store"), Options::default()).unwrap();
    let meta = r#"{"v":1,"d":{"generation":3,"next_rollout":2,"next_event":9,"oldest_event":9}}"#;
    let mut txn = Txn::new();
    txn.ops.push(Op::Put {
        key: "/v1/meta/plan".into(),
        value: meta.into(),
        lease: None,
    });
    store.commit(txn).unwrap();
    store.close().unwrap();
    drop(store);
    let port = Port::over(dir).await;
    let old = port.as_peer(&port.operator_certificate("grace")).await;
    let never_came = port.operator_certificate("henry");
    label(&old, "x", ("a", "b")).await.unwrap_err();
    let mut access = AccessServiceClient::new(old.clone());
    let me = access
        .get_operator(GetOperatorRequest::default())
        .await
        .unwrap();
    let me = me.into_inner().operator.unwrap();
    assert_eq!(
        (me.grants[0].role.as_str(), me.created_by.as_str()),
        ("admin", "upgrade")
    );
    // One who has not come since is known by name only, and can be kept out all the same.
    let request = RevokeOperatorRequest {
        name: "henry".to_owned(),
    };
    access.revoke_operator(request).await.unwrap();
    refused(
        list(&port.as_peer(&never_came).await).await,
        Code::Unauthenticated,
        "revoked",
    );
    // What the CA says of a name that nobody made is worth nothing from now on.
    port.hand.advance(Duration::from_hours(1));
    let late = port.as_peer(&port.operator_certificate("ivan")).await;
    refused(
        list(&late).await,
        Code::Unauthenticated,
        "there is no operator ivan",
    );
}
