//! Events: what is stored, and what comes.

use std::collections::BTreeMap;

use comber_proto::event::v1::event_service_client::EventServiceClient;
use comber_proto::event::v1::{Event, WatchEventsRequest};
use comber_proto::host::v1::LabelHostsRequest;
use comber_proto::host::v1::host_service_client::HostServiceClient;
use tonic::Code;
use tonic::transport::Channel;

use crate::port::{PATIENCE, Port};

async fn read(channel: Channel, request: WatchEventsRequest) -> Vec<Event> {
    let mut events = EventServiceClient::new(channel);
    let mut stream = events.watch_events(request).await.unwrap().into_inner();
    let mut read = Vec::new();
    while let Some(response) = stream.message().await.unwrap() {
        read.push(response.event.unwrap());
    }
    read
}

async fn label(port: &Port, host: &str, value: &str) {
    let mut hosts = HostServiceClient::new(port.as_operator().await);
    let request = LabelHostsRequest {
        hosts: vec![host.to_owned()],
        set: [("v".to_owned(), value.to_owned())].into(),
        ..LabelHostsRequest::default()
    };
    hosts.label_hosts(request).await.unwrap();
}

#[tokio::test]
async fn events_are_in_order_without_gaps_and_filters_hold() {
    let port = Port::open().await;
    port.enrol("a").await;
    port.enrol("b").await;
    for value in ["1", "2", "3"] {
        label(&port, "a", value).await;
    }
    label(&port, "b", "1").await;
    let channel = port.as_operator().await;
    let all = read(channel.clone(), WatchEventsRequest::default()).await;
    let numbers: Vec<u64> = all.iter().map(|event| event.number).collect();
    assert_eq!(numbers, (1..=all.len() as u64).collect::<Vec<_>>());
    let mut kinds: BTreeMap<&str, u32> = BTreeMap::new();
    for event in &all {
        *kinds.entry(&event.kind).or_default() += 1;
    }
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        [
            ("host_enrolled", 2),
            ("host_labelled", 4),
            ("token_created", 2),
        ]
    );

    let last = WatchEventsRequest {
        last: 2,
        ..WatchEventsRequest::default()
    };
    assert_eq!(
        read(channel.clone(), last.clone()).await,
        all[all.len() - 2..]
    );
    let of_a = WatchEventsRequest {
        host: "a".to_owned(),
        ..last
    };
    let of_a = read(channel.clone(), of_a).await;
    let texts: Vec<_> = of_a.iter().map(|event| event.text.as_str()).collect();
    assert_eq!(
        texts,
        ["labels of a are now v=2", "labels of a are now v=3"]
    );
    let after = WatchEventsRequest {
        after: 3,
        ..WatchEventsRequest::default()
    };
    assert_eq!(read(channel, after).await, all[3..]);
}

#[tokio::test]
async fn a_follower_sees_what_comes_and_is_told_when_the_controller_stops() {
    let port = Port::open().await;
    port.enrol("a").await;
    let mut events = EventServiceClient::new(port.as_operator().await);
    let request = WatchEventsRequest {
        follow: true,
        last: 1,
        host: "a".to_owned(),
        ..WatchEventsRequest::default()
    };
    let mut stream = events.watch_events(request).await.unwrap().into_inner();
    let mut next = async || {
        let message = tokio::time::timeout(PATIENCE, stream.message()).await;
        message
            .expect("nothing came")
            .map(|response| response.unwrap().event.unwrap().text)
    };
    assert!(next().await.unwrap().starts_with("a was enrolled"));
    label(&port, "a", "1").await;
    assert_eq!(next().await.unwrap(), "labels of a are now v=1");
    port.stop();
    let ended = next().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
    port.stopped().await;
}
