//! The command line of the binary: what it says and the code it ends with.

use std::fs;

use comber_runtime::{tls::Pin, token::Token};

use crate::{controller::TestController, host::Host};

fn told(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_wrong_configuration_is_told_whole_with_code_78() {
    let host = Host::new();
    fs::write(
        host.path("agent.toml"),
        "nam = 'x'\n[link]\nkeepalive = 30\n",
    )
    .unwrap();
    let output = host.command(&["check-config"]).await;
    assert_eq!(output.status.code(), Some(78));
    let told = told(&output);
    assert!(told.contains("nam: is not a known key"), "{told}");
    assert!(
        told.contains("link.keepalive: 30 is not a duration"),
        "{told}"
    );
}

#[tokio::test]
async fn shown_settings_name_their_origin() {
    let host = Host::new();
    let output = host.command(&["show-config", "--log-level", "debug"]).await;
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(
        shown.contains("log.level = \"debug\"  # flag --log-level"),
        "{shown}"
    );
    assert!(
        shown.contains("link.keepalive = \"30s\"  # default"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_wrong_command_line_ends_with_code_64() {
    let host = Host::new();
    assert_eq!(host.command(&["frobnicate"]).await.status.code(), Some(64));
}

#[tokio::test]
async fn a_host_that_is_not_enrolled_is_told_how() {
    let host = Host::new();
    let output = host.command(&["run"]).await;
    assert_eq!(output.status.code(), Some(78));
    assert!(
        told(&output).contains("comber-agent enroll --controller"),
        "{}",
        told(&output)
    );
    assert_eq!(host.status().await["host"], serde_json::Value::Null);
}

#[tokio::test]
async fn enrolling_ends_with_a_code_for_each_way_to_fail() {
    let controller = TestController::start().await;
    let host = Host::new();
    let unknown = Token::generate(controller.shared.ca.pin()).unwrap();
    let output = host.enroll(&controller, &unknown).await;
    assert_eq!(output.status.code(), Some(65), "{}", told(&output));
    let elsewhere = Token::generate(Pin::from_bytes([1; 32])).unwrap();
    let output = host.enroll(&controller, &elsewhere).await;
    assert_eq!(output.status.code(), Some(69), "{}", told(&output));
    let output = host
        .command(&["enroll", "--controller", "https://c", "--token", "cmb1_x"])
        .await;
    assert_eq!(output.status.code(), Some(65), "{}", told(&output));
    assert!(told(&output).contains("copy it again"), "{}", told(&output));
}

#[tokio::test]
async fn a_second_agent_on_one_state_directory_ends_with_code_75() {
    let controller = TestController::start().await;
    let mut host = Host::enrolled(&controller).await;
    host.start();
    controller.heard("the first state", 0, |_| true).await;
    let output = host.command(&["run"]).await;
    assert_eq!(output.status.code(), Some(75), "{}", told(&output));
    assert!(host.terminate().await.success());
}

#[tokio::test]
async fn an_expired_certificate_is_explained_in_log_and_status_and_mended_by_enrolling() {
    let controller = TestController::start().await;
    controller.certificates_live(jiff::SignedDuration::from_secs(-5));
    let mut host = Host::enrolled(&controller).await;
    host.start();
    let status = host
        .becomes("expired", |status| {
            !status["certificate"]["problem"].is_null()
        })
        .await;
    let problem = status["certificate"]["problem"].as_str().unwrap();
    assert!(problem.contains("run comber-agent enroll"), "{problem}");
    controller.certificates_live(jiff::SignedDuration::from_hours(1));
    let output = host.enroll(&controller, &controller.token(1, None)).await;
    assert!(output.status.success(), "{}", told(&output));
    controller.heard("the first state", 0, |_| true).await;
    assert!(
        host.log().contains("run comber-agent enroll"),
        "{}",
        host.log()
    );
}
