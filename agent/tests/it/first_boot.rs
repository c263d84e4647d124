//! Enrolment by a file, as an image does it: the real binary, from the first start to the first report.

use std::{ffi::OsStr, fs, os::unix::net::UnixDatagram, path::PathBuf};

use comber_runtime::token::Token;

use crate::{controller::TestController, host::Host};

fn write(host: &Host, controller: &str, token: &Token) -> PathBuf {
    let file = host.path("enroll.toml");
    let token = token.reveal();
    let text = format!("controller = '{controller}'\ntoken = '{token}'\n");
    // In one step, as the agent may read it at any time.
    let new = host.path("enroll.new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, &file).unwrap();
    file
}

fn start(host: &mut Host) {
    let file = host.path("enroll.toml");
    host.start_with(&[
        OsStr::new("run"),
        OsStr::new("--enroll-file"),
        file.as_os_str(),
    ]);
}

#[tokio::test]
async fn a_host_enrols_by_the_file_and_keeps_no_token() {
    let controller = TestController::start().await;
    let mut host = Host::new();
    let token = controller.token(1, None);
    let file = write(&host, &controller.url().to_string(), &token);
    start(&mut host);
    controller.heard("the first state", 0, |_| true).await;
    assert!(!file.exists(), "the token is still there");
    assert_eq!(host.status().await["host"], "web-1");
    assert!(!host.log().contains(&token.reveal()), "{}", host.log());
    assert!(host.terminate().await.success());
}

#[tokio::test]
async fn a_controller_that_is_away_holds_up_neither_the_boot_nor_the_enrolment() {
    let controller = TestController::start().await;
    let mut host = Host::new();
    let manager = UnixDatagram::bind(host.path("notify")).unwrap();
    let token = controller.token(1, None);
    let file = write(&host, "https://127.0.0.1:1", &token);
    start(&mut host);
    manager
        .set_read_timeout(Some(crate::support::PATIENCE))
        .unwrap();
    let mut told = [0; 512];
    let n = manager.recv(&mut told).unwrap();
    assert_eq!(&told[..n], b"READY=1");
    let n = manager.recv(&mut told).unwrap();
    let status = String::from_utf8_lossy(&told[..n]).into_owned();
    assert!(status.starts_with("STATUS=not enrolled yet: "), "{status}");
    assert!(file.exists(), "the token is gone before it was used");
    write(&host, &controller.url().to_string(), &token);
    controller.heard("the first state", 0, |_| true).await;
    assert!(!file.exists(), "the token is still there");
    assert!(host.terminate().await.success());
}

#[tokio::test]
async fn a_token_that_is_refused_ends_the_agent_with_code_65_and_is_kept() {
    let controller = TestController::start().await;
    let mut host = Host::new();
    let unknown = Token::generate(controller.shared.ca.pin()).unwrap();
    let file = write(&host, &controller.url().to_string(), &unknown);
    start(&mut host);
    assert_eq!(host.ended().await.code(), Some(65), "{}", host.log());
    assert!(host.log().contains("comber token create"), "{}", host.log());
    assert!(file.exists());
}

#[tokio::test]
async fn a_file_that_is_no_enrolment_ends_the_agent_with_code_78() {
    let mut host = Host::new();
    fs::write(host.path("enroll.toml"), "tokens = 1\n").unwrap();
    start(&mut host);
    assert_eq!(host.ended().await.code(), Some(78), "{}", host.log());
    assert!(
        host.log().contains("tokens: is not a known key"),
        "{}",
        host.log()
    );
}

#[tokio::test]
async fn an_enrolled_host_keeps_its_identity_and_loses_the_file() {
    let controller = TestController::start().await;
    let mut host = Host::enrolled(&controller).await;
    let identity = fs::read(host.path("state/identity.toml")).unwrap();
    let unused = controller.token(1, None);
    let file = write(&host, &controller.url().to_string(), &unused);
    start(&mut host);
    controller.heard("the first state", 0, |_| true).await;
    assert!(!file.exists(), "the token is still there");
    assert_eq!(
        fs::read(host.path("state/identity.toml")).unwrap(),
        identity
    );
    assert!(host.terminate().await.success());
}

#[tokio::test]
async fn the_service_manager_may_stop_an_agent_that_is_not_enrolled_yet() {
    let controller = TestController::start().await;
    let mut host = Host::new();
    let manager = UnixDatagram::bind(host.path("notify")).unwrap();
    manager
        .set_read_timeout(Some(crate::support::PATIENCE))
        .unwrap();
    write(&host, "https://127.0.0.1:1", &controller.token(1, None));
    start(&mut host);
    let mut told = [0; 512];
    manager.recv(&mut told).unwrap();
    assert!(host.terminate().await.success(), "{}", host.log());
}
