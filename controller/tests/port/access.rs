//! Who may call what, on the wire. The table itself is tested beside it.

use std::collections::BTreeSet;

use comber_proto::agent::v1::agent_link_service_client::AgentLinkServiceClient;
use comber_proto::agent::v1::{Facts, ReportFactsRequest};
use comber_proto::host::v1::host_service_client::HostServiceClient;
use comber_proto::host::v1::{ListHostsRequest, RetireHostRequest};
use prost::Message as _;
use prost_types::FileDescriptorProto;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::port::{Agent, Port, idle};

async fn list(channel: Channel) -> Result<u32, Status> {
    let mut hosts = HostServiceClient::new(channel);
    let listed = hosts.list_hosts(ListHostsRequest::default()).await?;
    Ok(listed.into_inner().total)
}

async fn report_facts(channel: Channel) -> Result<(), Status> {
    let facts = Facts {
        hostname: "h".to_owned(),
        ..Facts::default()
    };
    let request = ReportFactsRequest { facts: Some(facts) };
    let mut agent = AgentLinkServiceClient::new(channel);
    agent.report_facts(request).await.map(drop)
}

#[tokio::test]
async fn each_peer_does_its_own_part_and_is_told_what_it_lacks() {
    let port = Port::open().await;
    let host = port.enrol("web-1").await;
    assert_eq!(list(port.as_operator().await).await.unwrap(), 1);
    report_facts(port.as_peer(&host).await).await.unwrap();

    let refused = list(port.as_peer(&host).await).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(
        refused.message(),
        "web-1 is a host; only operators may do this"
    );
    let refused = report_facts(port.as_operator().await).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    for refused in [
        list(port.as_stranger().await).await.unwrap_err(),
        report_facts(port.as_stranger().await).await.unwrap_err(),
    ] {
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
        assert!(refused.message().contains("get one with"), "{refused}");
    }
}

#[tokio::test]
async fn a_certificate_of_the_ca_does_not_help_a_host_that_is_not_enrolled() {
    let port = Port::open().await;
    let identity = port.host_certificate("ghost");
    let refused = report_facts(port.as_peer(&identity).await)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let refused = Agent::attach(port.as_peer(&identity).await, idle()).await;
    let refused = refused.err().unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(refused.message().contains("not known here"), "{refused}");
}

#[tokio::test]
async fn health_is_for_everybody_and_the_description_for_operators() {
    let port = Port::open().await;
    let mut health = HealthClient::new(port.as_stranger().await);
    let answer = health.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(answer.into_inner().status, 1, "not serving");

    let services = describe(port.as_operator().await).await.unwrap();
    assert!(
        services.contains(&"comber.rollout.v1.RolloutService".to_owned()),
        "{services:?}"
    );
    let refused = describe(port.as_stranger().await).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
}

#[tokio::test]
async fn whoever_watches_the_health_is_told_that_the_process_ends() {
    let port = Port::open().await;
    let mut health = HealthClient::new(port.as_stranger().await);
    let mut watched = Vec::new();
    for service in ["", "comber.agent.v1.AgentLinkService"] {
        let service = service.to_owned();
        let answer = health.watch(HealthCheckRequest { service }).await.unwrap();
        let mut statuses = answer.into_inner();
        let serving = statuses.message().await.unwrap().unwrap();
        assert_eq!(serving.status, 1, "not serving");
        watched.push(statuses);
    }
    port.stop();
    for statuses in &mut watched {
        let ending = statuses.message().await.unwrap().unwrap();
        assert_eq!(ending.status, 2, "still serving");
    }
}

/// One question of a tool that knows nothing but the port.
async fn ask(channel: Channel, question: MessageRequest) -> Result<MessageResponse, Status> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(question),
    };
    let mut client = ServerReflectionClient::new(channel);
    let answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await?;
    let answer = answers.into_inner().message().await?.unwrap();
    Ok(answer.message_response.unwrap())
}

async fn describe(channel: Channel) -> Result<Vec<String>, Status> {
    let question = MessageRequest::ListServices(String::new());
    let MessageResponse::ListServicesResponse(list) = ask(channel, question).await? else {
        panic!("no list");
    };
    Ok(list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect())
}

#[tokio::test]
async fn a_tool_finds_every_message_that_it_needs_to_make_a_call() {
    let port = Port::open().await;
    let channel = port.as_operator().await;
    let services = describe(channel.clone()).await.unwrap();
    let mut wanted: Vec<_> = services
        .into_iter()
        .map(MessageRequest::FileContainingSymbol)
        .collect();
    let (mut files, mut asked) = (BTreeSet::new(), BTreeSet::new());
    while let Some(question) = wanted.pop() {
        let what = format!("{question:?}");
        let answer = ask(channel.clone(), question).await.unwrap();
        let MessageResponse::FileDescriptorResponse(found) = answer else {
            panic!("{what}: {answer:?}");
        };
        for bytes in found.file_descriptor_proto {
            let file = FileDescriptorProto::decode(&*bytes).unwrap();
            files.insert(file.name().to_owned());
            let new = file.dependency.into_iter();
            let new = new.filter(|name| asked.insert(name.clone()));
            wanted.extend(new.map(MessageRequest::FileByFilename));
        }
    }
    let missing: Vec<_> = asked.difference(&files).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let needed = "comber/rollout/v1/messages.proto";
    assert!(files.contains(needed), "{files:?}");
}

#[tokio::test]
async fn older_tools_are_answered_too() {
    use tonic_reflection::pb::v1alpha as old;
    let port = Port::open().await;
    let list = old::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = || old::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(list.clone()),
    };
    let client = old::server_reflection_client::ServerReflectionClient::new;
    let mut operator = client(port.as_operator().await);
    let answers = operator.server_reflection_info(tokio_stream::once(request()));
    let mut answers = answers.await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    let text = format!("{answer:?}");
    assert!(text.contains("comber.rollout.v1.RolloutService"), "{text}");
    let mut stranger = client(port.as_stranger().await);
    let refused = stranger.server_reflection_info(tokio_stream::once(request()));
    assert_eq!(refused.await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn hosts_are_paged_counted_and_retired_for_good() {
    let port = Port::open().await;
    for name in ["c", "a", "b"] {
        port.enrol(name).await;
    }
    let mut hosts = HostServiceClient::new(port.as_operator().await);
    let mut page = ListHostsRequest {
        page_size: 2,
        ..ListHostsRequest::default()
    };
    let first = hosts.list_hosts(page.clone()).await.unwrap().into_inner();
    page.page_token = first.next_page_token;
    let second = hosts.list_hosts(page).await.unwrap().into_inner();
    let names: Vec<_> = first
        .hosts
        .iter()
        .chain(&second.hosts)
        .map(|host| host.id.as_str())
        .collect();
    assert_eq!((names, first.total), (vec!["a", "b", "c"], 3));
    assert_eq!(second.next_page_token, "");

    let request = RetireHostRequest { id: "b".to_owned() };
    let retired = hosts
        .retire_host(request)
        .await
        .unwrap()
        .into_inner()
        .host
        .unwrap();
    assert!(retired.retired_at.is_some());
    let with = |retired| ListHostsRequest {
        retired,
        ..ListHostsRequest::default()
    };
    assert_eq!(
        hosts
            .list_hosts(with(false))
            .await
            .unwrap()
            .into_inner()
            .total,
        2
    );
    assert_eq!(
        hosts
            .list_hosts(with(true))
            .await
            .unwrap()
            .into_inner()
            .total,
        3
    );
    let wrong = ListHostsRequest {
        selector: "labels.".to_owned(),
        ..ListHostsRequest::default()
    };
    let refused = hosts.list_hosts(wrong).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().starts_with("selector"), "{refused}");
    let missing = RetireHostRequest { id: "z".to_owned() };
    let refused = hosts.retire_host(missing).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::NotFound, "there is no host z")
    );
}
