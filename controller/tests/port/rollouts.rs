//! Rollouts as operators see them.

use comber_proto::host::v1::host_service_client::HostServiceClient;
use comber_proto::host::v1::{ExplainHostRequest, GetHostRequest};
use comber_proto::rollout::v1::rollout_service_client::RolloutServiceClient;
use comber_proto::rollout::v1::{
    AbortRolloutRequest, AwaitFenceRequest, CreateRolloutRequest, ExplainRolloutRequest,
    GetRolloutRequest, ListMembersRequest, ListRolloutsRequest, PauseRolloutRequest,
    PreviewRolloutRequest, ResumeRolloutRequest, Rollout, RolloutState, StartRolloutRequest,
    WatchRolloutRequest,
};
use tonic::Code;
use tonic::transport::Channel;

use crate::artifacts::Bundle;
use crate::port::{Agent, PATIENCE, Port, idle};

const SPEC: &str = "release = \"app@1\"\nselector = \"true\"\n[[wave]]\nname = \"canary\"\nhosts = 1\nsoak = \"1m\"\n[[wave]]\nhosts = \"rest\"\n";

type Client = RolloutServiceClient<Channel>;

/// A port with a release and enrolled hosts.
async fn with_hosts(names: &[&str]) -> (Port, Client) {
    let port = Port::open().await;
    let operator = port.as_operator().await;
    Bundle::build(&port, "1").publish(operator.clone()).await;
    for name in names {
        port.enrol(name).await;
    }
    (port, RolloutServiceClient::new(operator))
}

async fn create(client: &mut Client) -> Rollout {
    let request = CreateRolloutRequest {
        spec: SPEC.to_owned(),
    };
    client
        .create_rollout(request)
        .await
        .unwrap()
        .into_inner()
        .rollout
        .unwrap()
}

async fn start(client: &mut Client, id: &str) {
    let request = StartRolloutRequest { id: id.to_owned() };
    client.start_rollout(request).await.unwrap();
}

/// Watches until the rollout is as it should be.
async fn becomes(client: &mut Client, id: &str, wanted: impl Fn(&Rollout) -> bool) -> Rollout {
    let request = WatchRolloutRequest { id: id.to_owned() };
    let mut stream = client.watch_rollout(request).await.unwrap().into_inner();
    loop {
        let next = tokio::time::timeout(PATIENCE, stream.message()).await;
        let rollout = next
            .expect("nothing comes")
            .unwrap()
            .unwrap()
            .rollout
            .unwrap();
        if wanted(&rollout) {
            return rollout;
        }
    }
}

#[tokio::test]
async fn every_mistake_of_a_rollout_file_is_told_at_once() {
    let (_port, mut client) = with_hosts(&[]).await;
    let spec = "release = \"app@9\"\nselector = \"labels.\"\n[[wave]]\nhosts = 0\n";
    let request = CreateRolloutRequest {
        spec: spec.to_owned(),
    };
    let refused = client.create_rollout(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let lines: Vec<&str> = refused.message().lines().collect();
    assert!(lines.len() > 1, "{refused}");
    for field in ["selector", "wave"] {
        assert!(
            lines.iter().any(|line| line.contains(field)),
            "{field} not in {lines:?}"
        );
    }
    let large = CreateRolloutRequest {
        spec: "#".repeat(65 << 10),
    };
    let refused = client.create_rollout(large).await.unwrap_err();
    assert!(refused.message().contains("65536"), "{refused}");
    let huge = CreateRolloutRequest {
        spec: "#".repeat(300 << 10),
    };
    let refused = client.create_rollout(huge).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    let unpublished = CreateRolloutRequest {
        spec: SPEC.replace("app@1", "app@9"),
    };
    let refused = client.create_rollout(unpublished).await.unwrap_err();
    assert!(
        refused.message().contains("comber release publish"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_preview_changes_nothing_and_a_draft_waits() {
    let (port, mut client) = with_hosts(&["a", "b", "c"]).await;
    let before = port.core.events(0, 1000).await.unwrap().len();
    let request = PreviewRolloutRequest {
        spec: SPEC.to_owned(),
    };
    let preview = client.preview_rollout(request).await.unwrap().into_inner();
    let sizes: Vec<usize> = preview.waves.iter().map(|wave| wave.hosts.len()).collect();
    assert_eq!(
        (sizes, preview.total, preview.disconnected),
        (vec![1, 2], 3, 3)
    );
    assert!(preview.bytes > 0);
    assert_eq!(port.core.events(0, 1000).await.unwrap().len(), before);
    let draft = create(&mut client).await;
    assert_eq!((draft.id.as_str(), draft.author.as_str()), ("r1", "ada"));
    assert_eq!(draft.state(), RolloutState::Draft);
    assert!(draft.started_at.is_none());
    assert!(toml_equal(&draft.spec, SPEC), "{}", draft.spec);
}

/// The spec that comes back says what was said, with its defaults beside it.
fn toml_equal(told: &str, said: &str) -> bool {
    let parse = |text: &str| comber_model::rollout::RolloutSpec::parse(text).unwrap();
    parse(told) == parse(said)
}

#[tokio::test]
async fn a_rollout_is_started_watched_paused_and_aborted_behind_a_fence() {
    let (port, mut client) = with_hosts(&["a", "b", "c"]).await;
    let id = create(&mut client).await.id;
    start(&mut client, &id).await;
    let running = becomes(&mut client, &id, |r| r.waves[0].opened_at.is_some()).await;
    let outcomes = running.outcomes.unwrap();
    assert_eq!(
        (outcomes.total, outcomes.unreached, outcomes.pending),
        (3, 1, 2)
    );
    assert_eq!(running.waves[1].activity["waiting"], 2);

    let again = client
        .start_rollout(StartRolloutRequest { id: id.clone() })
        .await
        .unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition, "{again}");
    let paused = client
        .pause_rollout(PauseRolloutRequest { id: id.clone() })
        .await
        .unwrap();
    assert_eq!(
        paused.into_inner().rollout.unwrap().state(),
        RolloutState::Paused
    );
    client
        .resume_rollout(ResumeRolloutRequest { id: id.clone() })
        .await
        .unwrap();
    client
        .abort_rollout(AbortRolloutRequest { id: id.clone() })
        .await
        .unwrap();
    let fence = client
        .await_fence(AwaitFenceRequest { id: id.clone() })
        .await
        .unwrap();
    let mut fence = fence.into_inner();
    let last = tokio::time::timeout(PATIENCE, async {
        loop {
            let answer = fence.message().await.unwrap().unwrap();
            if answer.closed {
                break fence.message().await.unwrap();
            }
        }
    });
    assert!(
        last.await.expect("the fence stays open").is_none(),
        "something after the end"
    );
    let answer = client
        .list_rollouts(ListRolloutsRequest::default())
        .await
        .unwrap();
    let all = answer.into_inner().rollouts;
    assert_eq!((all.len(), all[0].state()), (1, RolloutState::Aborted));
    drop(port);
}

#[tokio::test]
async fn members_are_paged_by_place_and_filtered_by_outcome() {
    let (_port, mut client) = with_hosts(&["a", "b", "c", "d"]).await;
    let id = create(&mut client).await.id;
    start(&mut client, &id).await;
    becomes(&mut client, &id, |r| r.waves[0].opened_at.is_some()).await;
    let mut request = ListMembersRequest {
        id: id.clone(),
        page_size: 2,
        ..ListMembersRequest::default()
    };
    let whole = ListMembersRequest {
        id: id.clone(),
        ..ListMembersRequest::default()
    };
    let whole = client.list_members(whole).await.unwrap().into_inner();
    assert_eq!(
        (whole.members.len(), whole.next_page_token.as_str()),
        (4, "")
    );
    let waves: Vec<u32> = whole.members.iter().map(|member| member.wave).collect();
    assert_eq!(waves, [1, 2, 2, 2]);
    let first = client
        .list_members(request.clone())
        .await
        .unwrap()
        .into_inner();
    request.page_token = first.next_page_token;
    let second = client
        .list_members(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!([first.members, second.members].concat(), whole.members);
    assert_eq!(second.next_page_token, "");

    request.page_token = String::new();
    request.outcomes = vec!["unreached".to_owned()];
    let unreached = client
        .list_members(request.clone())
        .await
        .unwrap()
        .into_inner()
        .members;
    assert_eq!(unreached, whole.members[..1]);
    request.outcomes = vec!["lost".to_owned()];
    let refused = client.list_members(request.clone()).await.unwrap_err();
    assert!(refused.message().contains("succeeded, failed"), "{refused}");
    request.outcomes = Vec::new();
    request.page_token = "stranger".to_owned();
    let refused = client.list_members(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
}

#[tokio::test]
async fn everything_explains_itself_with_what_can_be_typed() {
    let (port, mut client) = with_hosts(&["a", "b"]).await;
    let id = create(&mut client).await.id;
    let request = ExplainRolloutRequest { id: id.clone() };
    let why = client
        .explain_rollout(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert!(
        why.next.contains(&format!("comber rollout start {id}")),
        "{:?}",
        why.next
    );
    start(&mut client, &id).await;
    becomes(&mut client, &id, |r| r.waves[0].opened_at.is_some()).await;
    let why = client.explain_rollout(request).await.unwrap().into_inner();
    let [held] = why.waves[0].hosts.as_slice() else {
        panic!("{why:#?}");
    };
    let canary = held.example.clone();
    assert_eq!(held.count, 1);
    assert!(!held.hold.as_ref().unwrap().text.is_empty());

    let mut hosts = HostServiceClient::new(port.as_operator().await);
    let request = ExplainHostRequest { id: canary.clone() };
    let host = hosts.explain_host(request).await.unwrap().into_inner();
    let [explained] = host.rollouts.as_slice() else {
        panic!("{host:#?}");
    };
    assert_eq!(explained.holds.first(), held.hold.as_ref());
    let request = GetHostRequest { id: canary.clone() };
    let known = hosts.get_host(request).await.unwrap().into_inner();
    assert_eq!(
        known.rollouts[0].member.as_ref().unwrap().outcome,
        "unreached"
    );

    // The hold changes with the host: connected, it has received its assignment.
    let identity = port.enrol(&canary).await;
    let mut agent = Agent::attach(port.as_peer(&identity).await, idle())
        .await
        .unwrap();
    let desired = agent.hear().await.unwrap().unwrap().desired.unwrap();
    let mut received = idle();
    received.generation = desired.generation;
    agent
        .say(comber_proto::agent::v1::LinkRequest {
            actual: Some(received),
            presence: None,
        })
        .await;
    becomes(&mut client, &id, |r| r.outcomes.unwrap().unreached == 0).await;
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let (_port, mut client) = with_hosts(&[]).await;
    let refused = client
        .get_rollout(GetRolloutRequest {
            id: "r9".to_owned(),
        })
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::NotFound, "there is no rollout r9")
    );
    for id in ["", "9", "r", "r-1", "r99999999999999999999"] {
        let request = GetRolloutRequest { id: id.to_owned() };
        let refused = client.get_rollout(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{id}: {refused}");
    }
}
