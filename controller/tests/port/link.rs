//! Hosts' streams.

use comber_proto::agent::v1::{LinkRequest, Report};
use comber_proto::host::v1::host_service_client::HostServiceClient;
use comber_proto::host::v1::{GetHostRequest, Host, RetireHostRequest};
use tonic::Code;

use crate::port::{Agent, PATIENCE, Port, idle};

async fn host(port: &Port, id: &str) -> Host {
    let mut hosts = HostServiceClient::new(port.as_operator().await);
    let request = GetHostRequest { id: id.to_owned() };
    hosts
        .get_host(request)
        .await
        .unwrap()
        .into_inner()
        .host
        .unwrap()
}

/// Waits until a host is as it should be.
async fn becomes(port: &Port, id: &str, wanted: impl Fn(&Host) -> bool) {
    let mut changed = port.core.changed();
    let waiting = async {
        while !wanted(&host(port, id).await) {
            changed.changed().await.unwrap();
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(in_time.is_ok(), "{:#?}", host(port, id).await);
}

#[tokio::test]
async fn both_sides_say_everything_first_and_the_link_follows_the_stream() {
    let port = Port::open().await;
    let identity = port.enrol("web-1").await;
    let mut agent = Agent::attach(port.as_peer(&identity).await, idle())
        .await
        .unwrap();
    let desired = agent.hear().await.unwrap().unwrap().desired.unwrap();
    assert_eq!(desired.epoch, port.core.epoch().to_vec());
    assert!(desired.assignment.is_none() && desired.permit.is_none());
    becomes(&port, "web-1", |host| {
        host.connected && host.actual.is_some()
    })
    .await;
    drop(agent);
    becomes(&port, "web-1", |host| !host.connected).await;
}

#[tokio::test]
async fn a_second_stream_ends_the_first() {
    let port = Port::open().await;
    let identity = port.enrol("web-1").await;
    let mut first = Agent::attach(port.as_peer(&identity).await, idle())
        .await
        .unwrap();
    first.hear().await.unwrap();
    let mut second = Agent::attach(port.as_peer(&identity).await, idle())
        .await
        .unwrap();
    second.hear().await.unwrap();
    let ended = first.ends_with().await;
    assert_eq!(ended.code(), Code::Aborted, "{ended}");
    becomes(&port, "web-1", |host| host.connected).await;
}

#[tokio::test]
async fn retiring_a_host_cuts_its_stream_and_keeps_it_out() {
    let port = Port::open().await;
    let identity = port.enrol("web-1").await;
    let channel = port.as_peer(&identity).await;
    let mut agent = Agent::attach(channel.clone(), idle()).await.unwrap();
    agent.hear().await.unwrap();
    let mut hosts = HostServiceClient::new(port.as_operator().await);
    let request = RetireHostRequest {
        id: "web-1".to_owned(),
    };
    hosts.retire_host(request).await.unwrap();
    let ended = agent.ends_with().await;
    assert_eq!(ended.code(), Code::PermissionDenied, "{ended}");
    let refused = Agent::attach(channel, idle()).await.err().unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
}

#[tokio::test]
async fn a_stop_ends_streams_with_the_reason_and_the_port_with_them() {
    let port = Port::open().await;
    let identity = port.enrol("web-1").await;
    let mut agent = Agent::attach(port.as_peer(&identity).await, idle())
        .await
        .unwrap();
    agent.hear().await.unwrap();
    port.stop();
    let ended = agent.ends_with().await;
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
    assert!(ended.message().contains("stopping"), "{ended}");
    port.stopped().await;
}

#[tokio::test]
async fn what_is_malformed_is_refused_whole_and_named() {
    let port = Port::open().await;
    let identity = port.enrol("web-1").await;
    let mut unsaid = idle();
    unsaid.state = 0;
    let mut unknown = idle();
    unknown.state = 99;
    let mut digest = idle();
    digest
        .installed
        .push(comber_proto::agent::v1::InstalledRelease {
            release: "app@1".to_owned(),
            digest: vec![1, 2],
            previous_version: String::new(),
        });
    let mut report = idle();
    report.reports.push(Report {
        number: 1,
        release: "app".to_owned(),
        ..Report::default()
    });
    let mut many = idle();
    many.locally_bad = vec!["app@1".to_owned(); 1000];
    let cases = [
        ("actual.state", unsaid),
        ("actual.state", unknown),
        ("actual.installed", digest),
        ("actual.reports", report),
        ("actual.locally_bad", many),
    ];
    for (field, actual) in cases {
        let mut agent = Agent::attach(port.as_peer(&identity).await, actual)
            .await
            .unwrap();
        let ended = agent.ends_with().await;
        assert_eq!(ended.code(), Code::InvalidArgument, "{field}: {ended}");
        assert!(ended.message().contains(field), "{field}: {ended}");
    }
    assert!(
        host(&port, "web-1").await.actual.is_none(),
        "something was taken in"
    );
}

#[tokio::test]
async fn empty_and_oversized_messages_end_the_stream() {
    let port = Port::open().await;
    let identity = port.enrol("web-1").await;
    let mut agent = Agent::attach(port.as_peer(&identity).await, idle())
        .await
        .unwrap();
    agent.say(LinkRequest::default()).await;
    let ended = agent.ends_with().await;
    assert_eq!(ended.code(), Code::InvalidArgument, "{ended}");

    let mut huge = idle();
    huge.boot_id = "x".repeat(100 << 10);
    let mut agent = Agent::attach(port.as_peer(&identity).await, huge)
        .await
        .unwrap();
    let ended = agent.ends_with().await;
    assert_eq!(ended.code(), Code::OutOfRange, "{ended}");
}

#[tokio::test]
async fn figures_are_counted_when_they_are_asked_for() {
    let port = Port::open().await;
    let identity = port.enrol("web-1").await;
    port.enrol("web-2").await;
    let mut agent = Agent::attach(port.as_peer(&identity).await, idle())
        .await
        .unwrap();
    agent.hear().await.unwrap();
    becomes(&port, "web-1", |host| host.connected).await;
    let text = port.scrape();
    for line in [
        "comber_hosts{state=\"connected\"} 1",
        "comber_hosts{state=\"disconnected\"} 1",
        "comber_hosts{state=\"retired\"} 0",
        "comber_agents{state=\"idle\"} 1",
        "comber_agents{state=\"broken\"} 0",
        "comber_rollouts{state=\"running\"} 0",
        "comber_streams 1",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}
