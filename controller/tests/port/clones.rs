//! One key on two machines, as two agents show it to the real port; and what looks like it and is not.

use comber_proto::agent::v1::{LinkRequest, Presence};
use comber_proto::host::v1::host_service_client::HostServiceClient;
use comber_proto::host::v1::{BarReason, GetHostRequest, Host, ResolveHostRequest};
use comber_runtime::identity::Identity;
use tonic::Code;

use crate::port::{Agent, Port, idle};

/// One process of an agent.
struct Machine<'a> {
    port: &'a Port,
    identity: &'a Identity,
    instance: u8,
    connection: u64,
}

impl<'a> Machine<'a> {
    fn new(port: &'a Port, identity: &'a Identity, instance: u8) -> Self {
        Self {
            port,
            identity,
            instance,
            connection: 0,
        }
    }

    /// Connects and says what it is; the stream, or how it ended.
    async fn connect(&mut self) -> Result<Agent, tonic::Status> {
        self.connection += 1;
        let mut actual = idle();
        actual.boot_id = format!("boot-{}", self.instance);
        let request = LinkRequest {
            actual: Some(actual),
            presence: Some(Presence {
                instance: vec![self.instance; 16],
                connection: self.connection,
            }),
        };
        let channel = self.port.as_peer(self.identity).await;
        let mut agent = Agent::open(channel, request).await?;
        // The first answer does not depend on what was said; the core has heard of it once the host is told as connected.
        agent.hear().await?;
        Ok(agent)
    }
}

async fn host(port: &Port) -> Host {
    let mut hosts = HostServiceClient::new(port.as_operator().await);
    let request = GetHostRequest {
        id: "web-1".to_owned(),
    };
    let answer = hosts.get_host(request).await.unwrap();
    answer.into_inner().host.unwrap()
}

/// Waits until the controller has heard the newest stream.
async fn heard(port: &Port) {
    let mut changed = port.core.changed();
    while !host(port).await.connected {
        changed.changed().await.unwrap();
    }
}

#[tokio::test]
async fn two_machines_with_one_key_are_both_refused_and_shown() {
    let port = Port::open().await;
    let identity = port.enrol("web-1").await;
    let (mut one, mut two) = (
        Machine::new(&port, &identity, 1),
        Machine::new(&port, &identity, 2),
    );
    let mut streams = Vec::new();
    for _ in 0..2 {
        for machine in [&mut one, &mut two] {
            // The last of them is the alarm, which may come before its first answer.
            let Ok(stream) = machine.connect().await else {
                break;
            };
            streams.push(stream);
            if streams.len() < 4 {
                heard(&port).await;
            }
        }
    }
    let mut changed = port.core.changed();
    while host(&port).await.bar.is_none() {
        changed.changed().await.unwrap();
    }
    let told = host(&port).await;
    let bar = told.bar.as_ref().unwrap();
    assert_eq!(bar.reason(), BarReason::Cloned);
    assert!(
        bar.detail.contains("boot-1") && bar.detail.contains("boot-2"),
        "{}",
        bar.detail
    );
    assert!(!told.connected);
    for machine in [&mut one, &mut two] {
        let refused = machine.connect().await.err().unwrap();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        assert!(refused.message().contains("two machines"), "{refused}");
    }
    let line = "comber_hosts_barred{state=\"cloned\"} 1";
    assert!(port.scrape().contains(line), "{}", port.scrape());

    // Enrolled again, it is one machine: what the other holds stays worthless.
    let renewed = port.enrol("web-1").await;
    Machine::new(&port, &renewed, 3).connect().await.unwrap();
    let refused = two.connect().await.err().unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
}

#[tokio::test]
async fn an_operator_who_knows_better_lets_it_in_again() {
    let port = Port::open().await;
    let identity = port.enrol("web-1").await;
    let mut machines = [1, 2].map(|instance| Machine::new(&port, &identity, instance));
    let mut streams = Vec::new();
    while host(&port).await.bar.is_none() {
        for machine in &mut machines {
            streams.extend(machine.connect().await);
        }
    }
    let mut hosts = HostServiceClient::new(port.as_operator().await);
    let request = ResolveHostRequest {
        id: "web-1".to_owned(),
    };
    let answer = hosts.resolve_host(request).await.unwrap().into_inner();
    assert!(answer.host.unwrap().bar.is_none());
    machines[0].connect().await.unwrap();
}

#[tokio::test]
async fn reconnects_reboots_and_restored_disks_over_half_open_streams_are_no_clones() {
    let port = Port::open().await;
    let identity = port.enrol("web-1").await;
    // Kept, so that the controller notices nothing of their end: each later one takes the place of one that is open.
    let mut half_open = Vec::new();
    for boot in 1..=5 {
        let mut process = Machine::new(&port, &identity, boot);
        for _reconnect in 0..3 {
            half_open.push(process.connect().await.unwrap());
            heard(&port).await;
        }
    }
    assert!(
        host(&port).await.bar.is_none(),
        "{:?}",
        host(&port).await.bar
    );
}
