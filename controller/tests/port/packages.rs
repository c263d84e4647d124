//! Packages over the port: parts that make a list, and what is refused.

use comber_proto::agent::v1::agent_link_service_client::AgentLinkServiceClient;
use comber_proto::agent::v1::{PackageChange, ReportPackagesRequest};
use comber_proto::host::v1::host_service_client::HostServiceClient;
use comber_proto::host::v1::{
    ListHostsRequest, ListPackagesRequest, ListPackagesResponse, Package,
};
use sha2::{Digest as _, Sha256};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::port::{Agent, Port, idle};

const BASH: &str = "pkg:deb/debian/bash@5.2-1?arch=amd64";

fn digest(purls: &[String]) -> Vec<u8> {
    let lines: Vec<String> = purls.iter().map(|purl| format!("{purl}\n")).collect();
    Sha256::digest(lines.concat()).to_vec()
}

fn change(base: &[u8], result: Vec<u8>) -> ReportPackagesRequest {
    ReportPackagesRequest {
        change: Some(PackageChange {
            base: base.to_vec(),
            result,
        }),
        ..ReportPackagesRequest::default()
    }
}

fn added(purls: &[String]) -> ReportPackagesRequest {
    ReportPackagesRequest {
        added: purls.to_vec(),
        ..ReportPackagesRequest::default()
    }
}

async fn report(channel: Channel, parts: Vec<ReportPackagesRequest>) -> Result<Vec<u8>, Status> {
    let parts = futures_util::stream::iter(parts);
    let mut agent = AgentLinkServiceClient::new(channel);
    let answer = agent.report_packages(parts).await?;
    Ok(answer.into_inner().digest)
}

async fn page(port: &Port, token: &str, size: u32) -> ListPackagesResponse {
    let request = ListPackagesRequest {
        id: "web-1".to_owned(),
        page_token: token.to_owned(),
        page_size: size,
    };
    let mut hosts = HostServiceClient::new(port.as_operator().await);
    hosts.list_packages(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn parts_make_a_list_that_the_next_stream_hears_of() {
    let port = Port::open().await;
    let identity = port.enrol("web-1").await;
    let channel = port.as_peer(&identity).await;
    let mut agent = Agent::attach(channel.clone(), idle()).await.unwrap();
    let first = agent.hear().await.unwrap().unwrap().desired.unwrap();
    assert_eq!(first.packages.unwrap().digest, Vec::<u8>::new());
    assert!(page(&port, "", 0).await.summary.is_none());

    let purls: Vec<String> = (0..2500)
        .map(|n| format!("pkg:deb/debian/package{n:04}@{n}?arch=amd64"))
        .collect();
    let whole = digest(&purls);
    let mut parts = vec![change(&[], whole.clone())];
    parts.extend(purls.chunks(500).map(added));
    assert_eq!(report(channel.clone(), parts).await.unwrap(), whole);

    let first = page(&port, "", 1000).await;
    assert_eq!(first.summary.clone().unwrap().count, 2500);
    assert_eq!(first.packages.len(), 1000);
    let wanted = Package {
        purl: purls[0].clone(),
        name: "package0000".to_owned(),
        version: "0".to_owned(),
        arch: "amd64".to_owned(),
    };
    assert_eq!(first.packages[0], wanted);
    let second = page(&port, &first.next_page_token, 1000).await;
    let third = page(&port, &second.next_page_token, 1000).await;
    assert_eq!(third.packages.len(), 500);
    assert_eq!(third.packages[499].purl, purls[2499]);
    assert!(third.next_page_token.is_empty());

    drop(agent);
    let mut agent = Agent::attach(channel, idle()).await.unwrap();
    let again = agent.hear().await.unwrap().unwrap().desired.unwrap();
    assert_eq!(again.packages.unwrap().digest, whole);
    assert!(
        port.scrape()
            .contains("comber_package_reports_total{kind=\"whole\"} 1")
    );
}

#[tokio::test]
async fn an_operator_finds_hosts_by_their_packages() {
    let port = Port::open().await;
    let identity = port.enrol("web-1").await;
    port.enrol("web-2").await;
    let purls = [BASH.to_owned()];
    let parts = vec![change(&[], digest(&purls)), added(&purls)];
    let channel = port.as_peer(&identity).await;
    report(channel, parts).await.unwrap();
    let mut hosts = HostServiceClient::new(port.as_operator().await);
    for (selector, total) in [
        (r#""bash" in facts.packages"#, 1),
        (r#"!("bash" in facts.packages)"#, 1),
        (r#"facts.packages["bash"] == "5.2-1""#, 1),
        (r#"facts.packages["zsh"] != "5""#, 0),
        ("facts.package_count == 0", 1),
    ] {
        let request = ListHostsRequest {
            selector: selector.to_owned(),
            ..ListHostsRequest::default()
        };
        let listed = hosts.list_hosts(request).await.unwrap().into_inner();
        assert_eq!(listed.total, total, "{selector}");
    }
}

#[tokio::test]
async fn hostile_reports_are_refused_whole() {
    let port = Port::open().await;
    let identity = port.enrol("web-1").await;
    let channel = port.as_peer(&identity).await;
    let good = [BASH.to_owned()];
    let bad = ["pkg:deb/../../etc/passwd@1".to_owned()];
    let flood: Vec<String> = (0..1000).map(|n| format!("{n:0>500}")).collect();
    let mut endless = vec![change(&[], vec![0; 32])];
    endless.extend(flood.chunks(100).cycle().take(40).map(added));
    let refusals = [
        ("nothing at all", vec![]),
        ("no change", vec![added(&good)]),
        ("a short digest", vec![change(&[], vec![0; 31])]),
        ("a short base", vec![change(&[1], vec![0; 32])]),
        (
            "a second change",
            vec![change(&[], digest(&good)), change(&[], digest(&good))],
        ),
        ("a lie", vec![change(&[], vec![7; 32]), added(&good)]),
        ("no purl", vec![change(&[], digest(&bad)), added(&bad)]),
        (
            "the same twice",
            vec![change(&[], digest(&good)), added(&good), added(&good)],
        ),
        ("more than two lists", endless),
    ];
    for (what, parts) in refusals {
        let refused = report(channel.clone(), parts).await;
        let status = refused.expect_err(what);
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
    }
    let unknown = vec![change(&[9; 32], digest(&good)), added(&good)];
    let held = report(channel.clone(), unknown).await.unwrap();
    assert!(held.is_empty(), "it holds none");
    assert!(page(&port, "", 0).await.summary.is_none());
    let operator = report(port.as_operator().await, vec![change(&[], vec![0; 32])]).await;
    assert_eq!(operator.unwrap_err().code(), Code::PermissionDenied);
}
