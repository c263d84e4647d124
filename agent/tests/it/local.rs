//! The subcommands for a host's administrators, with the real binary: what they say, what they end with, what stays.

use std::fs;

use comber_proto::agent::v1::AgentState;
use serde_json::Value;

use crate::{
    controller::TestController,
    host::{Host, Release},
    rollout::{bring, is, plan, reports},
};

fn told(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn json(host: &Host, arguments: &[&str]) -> Value {
    let output = host
        .command(&[arguments, &["--output", "json"]].concat())
        .await;
    assert!(output.status.success(), "{}\n{}", told(&output), host.log());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn status_tells_the_link_of_an_agent_that_runs_and_works_without_one() {
    let controller = TestController::start().await;
    let mut host = Host::enrolled(&controller).await;
    assert_eq!(host.status().await["link"], Value::Null);
    host.start();
    let status = host
        .becomes("linked", |status| status["link"]["connected"] == true)
        .await;
    assert!(status["link"]["since"].is_string(), "{status:#}");
    let text = said(&host.command(&["status"]).await);
    assert!(text.contains("link         open since 20"), "{text}");
    let _stopped = controller.stop().await;
    let status = host
        .becomes("cut off", |status| status["link"]["connected"] == false)
        .await;
    assert!(status["link"]["last_error"].is_string(), "{status:#}");
    assert!(host.terminate().await.success());
    assert_eq!(host.status().await["link"], Value::Null);
    assert!(!host.path("state/agent.sock").exists());
}

#[tokio::test]
async fn check_now_connects_at_once_and_says_what_came_of_it() {
    let controller = TestController::start().await;
    let mut host = Host::enrolled(&controller).await;
    let output = host.command(&["check-now"]).await;
    assert_eq!(output.status.code(), Some(69), "{}", told(&output));
    assert!(told(&output).contains("no agent runs"), "{}", told(&output));

    // Without being hurried it would try again in an hour.
    host.configure("[link]\nbackoff_min = '1h'\nbackoff_max = '1h'\n");
    host.start();
    host.becomes("linked", |status| status["link"]["connected"] == true)
        .await;
    let checked = json(&host, &["check-now"]).await;
    assert_eq!(checked["link"]["opened"], 1, "{checked:#}");

    let stopped = controller.stop().await;
    host.becomes("cut off", |status| status["link"]["connected"] == false)
        .await;
    let output = host.command(&["check-now"]).await;
    assert_eq!(output.status.code(), Some(69), "{}", told(&output));
    assert!(
        told(&output).contains("no link to the controller: "),
        "{}",
        told(&output)
    );
    assert!(
        said(&output).contains("link         not open since 20"),
        "{}",
        said(&output)
    );
    let controller = stopped.start().await;
    controller.plan(plan(
        3,
        Release::good("1").assignment(Release::good("1").publish(&controller)),
    ));
    let checked = json(&host, &["check-now"]).await;
    assert_eq!(checked["link"]["connected"], true, "{checked:#}");
    assert_eq!(checked["link"]["opened"], 2, "{checked:#}");
}

#[tokio::test]
async fn history_keeps_how_attempts_ended_after_they_were_acknowledged() {
    let controller = TestController::start().await;
    let mut host = Host::enrolled(&controller).await;
    let none = said(&host.command(&["history"]).await);
    assert!(none.contains("no attempt has ended"), "{none}");
    host.start();
    bring(&controller, 3, "1").await;
    let bad = Release {
        check: "echo 'port 80 is closed' >&2; exit 1",
        verify: "1s",
        ..Release::good("2")
    };
    let artifact = bad.publish(&controller);
    controller.plan(plan(4, bad.assignment(artifact)));
    controller.heard("the report", 0, reports(4)).await;
    assert!(host.terminate().await.success());
    let history = json(&host, &["history"]).await;
    let attempts = history["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2, "{history:#}");
    assert_eq!(attempts[0]["release"], "app@2");
    assert_eq!(attempts[0]["result"], "rolled_back");
    assert_eq!(attempts[0]["class"], "health");
    assert_eq!(attempts[1]["result"], "committed");
    let newest = said(&host.command(&["history", "--limit", "1"]).await);
    assert!(
        newest.contains("app@2") && newest.contains("port 80 is closed"),
        "{newest}"
    );
    assert!(!newest.contains("app@1"), "{newest}");
}

#[tokio::test]
async fn trust_names_the_authority_that_tokens_pin() {
    let controller = TestController::start().await;
    let host = Host::new();
    let output = host.command(&["trust"]).await;
    assert_eq!(output.status.code(), Some(78), "{}", told(&output));
    let host = Host::enrolled(&controller).await;
    let trusted = json(&host, &["trust"]).await;
    assert_eq!(trusted["host"], "web-1");
    assert_eq!(trusted["controller"], controller.url().to_string());
    assert_eq!(trusted["controller_from"], "enrolment");
    let pin = controller.shared.ca.pin().to_string();
    assert_eq!(trusted["authorities"][0]["sha256"], pin);
    let text = said(&host.command(&["trust"]).await);
    assert!(
        text.contains(&format!("authority    sha256 {pin}, valid until ")),
        "{text}"
    );
}

#[tokio::test]
async fn unenrolling_ends_the_agent_and_leaves_what_is_installed() {
    let controller = TestController::start().await;
    let mut host = Host::enrolled(&controller).await;
    host.start();
    bring(&controller, 3, "1").await;
    let left = json(&host, &["unenroll"]).await;
    assert_eq!(left["host"], "web-1");
    assert_eq!(left["installed"][0], "app@1");
    assert!(
        left["next"][0]
            .as_str()
            .unwrap()
            .contains("comber host retire web-1")
    );
    assert!(host.ends().await.success(), "{}", host.log());
    for gone in [
        "state/identity.toml",
        "state/enrolment.toml",
        "state/agent.sock",
    ] {
        assert!(!host.path(gone).exists(), "{gone}");
    }
    assert_eq!(host.active().as_deref(), Some("1"));
    assert_eq!(host.command(&["run"]).await.status.code(), Some(78));
    assert_eq!(host.command(&["unenroll"]).await.status.code(), Some(78));

    // It may come back, and knows what it has.
    let token = controller.token(1, None);
    assert!(host.enroll(&controller, &token).await.status.success());
    assert_eq!(host.status().await["installed"][0]["release"], "app@1");
}

#[tokio::test]
async fn a_host_between_two_releases_leaves_only_by_force() {
    let controller = TestController::start().await;
    let mut host = Host::enrolled(&controller).await;
    host.start();
    let slow = Release {
        check: "touch \"$TEST_DIR/checking\"; sleep 20",
        ..Release::good("1")
    };
    let artifact = slow.publish(&controller);
    controller.plan(plan(3, slow.assignment(artifact)));
    host.exists("checking").await;
    let output = host.command(&["unenroll"]).await;
    assert_eq!(output.status.code(), Some(73), "{}", told(&output));
    assert!(
        told(&output).contains("app@1 is verifying on this host"),
        "{}",
        told(&output)
    );
    host.kill().await;
    let output = host.command(&["unenroll"]).await;
    assert_eq!(output.status.code(), Some(73), "{}", told(&output));
    assert!(
        told(&output).contains("no agent runs to end it"),
        "{}",
        told(&output)
    );
    assert!(host.path("state/identity.toml").exists());
    host.start();
    let verifying = is(AgentState::Verifying);
    controller.heard("verifying", 0, verifying).await;
    host.becomes("running", |status| status["link"]["connected"] == true)
        .await;
    let output = host.command(&["unenroll", "--force"]).await;
    assert!(output.status.success(), "{}\n{}", told(&output), host.log());
    assert!(host.ends().await.success());
    assert!(!host.path("state/identity.toml").exists());
}

#[tokio::test]
async fn only_the_current_and_the_previous_version_stay_and_nothing_fetched() {
    let controller = TestController::start().await;
    let mut host = Host::enrolled(&controller).await;
    host.start();
    for (generation, version) in [(3, "1"), (4, "2"), (5, "3"), (6, "4")] {
        bring(&controller, generation, version).await;
    }
    // What is swept follows the report.
    assert!(host.terminate().await.success());
    let names = |path: &str| {
        let entries = fs::read_dir(host.path(path)).map(|entries| {
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.collect::<Vec<_>>()
        });
        entries.unwrap_or_default()
    };
    let mut kept = names("root/opt/app/releases");
    kept.sort();
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert!(
        kept[0].starts_with("3-") && kept[1].starts_with("4-"),
        "{kept:?}"
    );
    assert_eq!(names("state/staging"), [""; 0]);
    assert!(!host.path("state/before.json").exists());
}
