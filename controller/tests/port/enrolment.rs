//! Tokens, first certificates and renewal over the wire.

use comber_model::access::Grants;
use comber_proto::enrolment::v1::enrolment_service_client::EnrolmentServiceClient;
use comber_proto::enrolment::v1::{
    CreateTokenRequest, EnrolRequest, IdentityKind, ListTokensRequest, RenewRequest,
    RevokeTokenRequest,
};
use comber_proto::host::v1::RetireHostRequest;
use comber_proto::host::v1::host_service_client::HostServiceClient;
use comber_runtime::identity::{Identity, PrivateKey, make_csr};
use comber_runtime::peer::PeerIdentity;
use std::time::Duration;
use tonic::Code;

use crate::port::{Agent, Port, for_hosts, idle};

#[tokio::test]
async fn a_token_enrols_as_often_as_it_says_and_under_the_names_that_it_allows() {
    let port = Port::open().await;
    let secret = port
        .token(CreateTokenRequest {
            name_pattern: "web-*".to_owned(),
            labels: [("role".to_owned(), "web".to_owned())].into(),
            ..for_hosts()
        })
        .await;
    let denied = port.try_enrol(&secret, "db-1").await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied}");
    let unknown = port.try_enrol(&[0; 24], "web-1").await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unauthenticated, "{unknown}");
    assert!(
        unknown.message().contains("comber token create"),
        "{unknown}"
    );
    let (key, response) = port.try_enrol(&secret, "web-1").await.unwrap();
    let spent = port.try_enrol(&secret, "web-2").await.unwrap_err();
    assert_eq!(spent.code(), Code::Unauthenticated, "{spent}");
    let identity = Identity::new(key, response.certificate_chain, response.ca).unwrap();
    Agent::attach(port.as_peer(&identity).await, idle())
        .await
        .unwrap();
    let world = port.core.read().await;
    let (host, view) = world.input.hosts.iter().next().unwrap();
    assert_eq!((host.as_str(), world.input.hosts.len()), ("web-1", 1));
    let labels: Vec<_> = view.host.labels.iter().collect();
    assert_eq!(labels, [("role", "web")]);
}

#[tokio::test]
async fn what_cannot_be_enrolled_is_refused_and_spends_nothing() {
    let port = Port::open().await;
    let secret = port.token(for_hosts()).await;
    let mut client = EnrolmentServiceClient::new(port.as_stranger().await);
    let request = |name: &str, csr: String| EnrolRequest {
        secret: secret.clone(),
        name: name.to_owned(),
        kind: IdentityKind::Host.into(),
        signing_request: csr,
    };
    let garbage = [
        request("web-1", "no PEM".to_owned()),
        request("web-1", "x".repeat(100_000)),
        request("../etc", String::new()),
        request("", String::new()),
    ];
    for request in garbage {
        let refused = client.enrol(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    port.try_enrol(&secret, "web-1").await.unwrap();
}

#[tokio::test]
async fn a_revoked_token_lets_nobody_in_and_lists_tell_no_secret() {
    let port = Port::open().await;
    let secret = port.token(for_hosts()).await;
    let mut client = EnrolmentServiceClient::new(port.as_operator().await);
    let listed = client.list_tokens(ListTokensRequest {}).await.unwrap();
    let tokens = listed.into_inner().tokens;
    let [token] = tokens.as_slice() else {
        panic!("{tokens:?}");
    };
    assert_eq!(
        (token.created_by.as_str(), token.id.len(), token.uses_left),
        ("ada", 12, 1)
    );
    let revoke = RevokeTokenRequest {
        id: token.id.clone(),
    };
    client.revoke_token(revoke.clone()).await.unwrap();
    let again = client.revoke_token(revoke).await.unwrap_err();
    assert_eq!(again.code(), Code::NotFound, "{again}");
    let refused = port.try_enrol(&secret, "web-1").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    let events = port.core.events(0, 10).await.unwrap();
    let (_, last) = events.last().unwrap();
    assert_eq!(
        last.text,
        format!("the token {} was revoked by ada", token.id)
    );
}

#[tokio::test]
async fn whoever_becomes_an_operator_is_on_record() {
    let port = Port::open().await;
    port.make_operator("grace", Grants::admin(), &[]).await;
    let secret = port
        .token(CreateTokenRequest {
            kind: IdentityKind::Operator.into(),
            ..CreateTokenRequest::default()
        })
        .await;
    let wrong = port.try_enrol(&secret, "web-1").await.unwrap_err();
    assert_eq!(wrong.code(), Code::Unauthenticated, "{wrong}");
    let key = PrivateKey::generate().unwrap();
    let mut client = EnrolmentServiceClient::new(port.as_stranger().await);
    let request = EnrolRequest {
        secret,
        name: "grace".to_owned(),
        kind: IdentityKind::Operator.into(),
        signing_request: make_csr(&key, "grace").unwrap(),
    };
    let response = client.enrol(request).await.unwrap().into_inner();
    let identity = Identity::new(key, response.certificate_chain, response.ca).unwrap();
    let mut client = EnrolmentServiceClient::new(port.as_peer(&identity).await);
    client.list_tokens(ListTokensRequest {}).await.unwrap();
    let events = port.core.events(0, 10).await.unwrap();
    let (_, last) = events.last().unwrap();
    assert_eq!(
        (last.kind.as_str(), last.text.as_str()),
        (
            "operator_enrolled",
            "grace was enrolled with a token of ada"
        )
    );
}

#[tokio::test]
async fn tokens_that_make_no_sense_are_refused_with_the_field() {
    let port = Port::open().await;
    let mut client = EnrolmentServiceClient::new(port.as_operator().await);
    let ttl = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let long = "x".repeat(5000);
    let cases = [
        ("kind", CreateTokenRequest::default()),
        (
            "uses",
            CreateTokenRequest {
                uses: 100_001,
                ..for_hosts()
            },
        ),
        (
            "ttl",
            CreateTokenRequest {
                ttl: ttl(-1),
                ..for_hosts()
            },
        ),
        (
            "ttl",
            CreateTokenRequest {
                ttl: ttl(400 * 86_400),
                ..for_hosts()
            },
        ),
        (
            "name_pattern",
            CreateTokenRequest {
                name_pattern: long.clone(),
                ..for_hosts()
            },
        ),
        (
            "label",
            CreateTokenRequest {
                labels: [(long, String::new())].into(),
                ..for_hosts()
            },
        ),
    ];
    for (field, request) in cases {
        let refused = client.create_token(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(field), "{field}: {refused}");
    }
}

#[tokio::test]
async fn a_certificate_is_renewed_for_the_identity_that_it_has() {
    let port = Port::open().await;
    let identity = port.enrol("web-1").await;
    let renewed = renew(&port, &identity, "somebody-else").await.unwrap();
    let peer = PeerIdentity::from_certificate(&renewed.chain()[0]).unwrap();
    assert_eq!(peer, PeerIdentity::Host("web-1".to_owned()));
    assert_ne!(renewed.facts().serial, identity.facts().serial);
    // Both are let in: a host that crashed before it saved the new one comes with the old one.
    for identity in [&renewed, &identity] {
        Agent::attach(port.as_peer(identity).await, idle())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn the_name_of_a_host_that_is_connected_is_taken() {
    let port = Port::open().await;
    let identity = port.enrol("web-1").await;
    let agent = Agent::attach(port.as_peer(&identity).await, idle())
        .await
        .unwrap();
    let secret = port.token(for_hosts()).await;
    let refused = port.try_enrol(&secret, "web-1").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(
        refused.message().contains("comber host retire web-1"),
        "{refused}"
    );
    // Nothing was spent, and nobody lost a place.
    Agent::attach(port.as_peer(&identity).await, idle())
        .await
        .unwrap();
    drop(agent);
}

#[tokio::test]
async fn what_a_retired_host_held_stays_worthless_when_its_name_is_enrolled_again() {
    let port = Port::open().await;
    let stolen = port.enrol("web-1").await;
    let thief = port.as_peer(&stolen).await;
    let mut hosts = HostServiceClient::new(port.as_operator().await);
    let request = RetireHostRequest {
        id: "web-1".to_owned(),
    };
    hosts.retire_host(request).await.unwrap();
    let retired = renew(&port, &stolen, "web-1").await.unwrap_err();
    assert_eq!(retired.code(), Code::PermissionDenied, "{retired}");
    assert!(
        retired.message().contains("comber token create"),
        "{retired}"
    );
    port.hand.advance(Duration::from_mins(1));
    let identity = port.enrol("web-1").await;
    let mut agent = Agent::attach(port.as_peer(&identity).await, idle())
        .await
        .unwrap();
    agent.hear().await.unwrap();
    for channel in [thief, port.as_peer(&stolen).await] {
        let refused = Agent::attach(channel, idle()).await.err().unwrap();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    }
    let refused = renew(&port, &stolen, "web-1").await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
}

async fn renew(port: &Port, identity: &Identity, name: &str) -> Result<Identity, tonic::Status> {
    let key = PrivateKey::generate().unwrap();
    let mut client = EnrolmentServiceClient::new(port.as_peer(identity).await);
    let request = RenewRequest {
        signing_request: make_csr(&key, name).unwrap(),
    };
    let response = client.renew(request).await?.into_inner();
    Ok(Identity::new(key, response.certificate_chain, response.ca).unwrap())
}
