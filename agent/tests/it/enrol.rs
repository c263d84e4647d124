//! Enrolling: what it leaves on disk, and that each way to fail says what to do.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use comber_agent::{
    enrol::{EnrolError, EnrolRequest, enrol},
    identity::{IdentityStore, enrolment, host_of},
};
use comber_model::HostId;
use comber_runtime::{clock::Clock, identity::Identity, tls::Pin, token::Token};
use http::Uri;

use crate::{controller::TestController, support::quick};

async fn try_enrol(
    controller: &Uri,
    token: &Token,
    name: &str,
    state_dir: &Path,
) -> Result<Identity, EnrolError> {
    let name: HostId = name.parse().unwrap();
    let request = EnrolRequest {
        controller,
        token,
        name: &name,
        state_dir,
        channel: quick().channel(),
        root: None,
    };
    let enrolled = enrol(&request, &Clock::system()).await;
    enrolled.map(|enrolled| enrolled.identity)
}

#[tokio::test]
async fn the_key_stays_here_and_only_its_owner_reads_it() {
    let controller = TestController::start().await;
    let dir = tempfile::tempdir().unwrap();
    let state_dir = dir.path().join("state");
    let token = controller.token(1, None);
    let identity = try_enrol(&controller.url(), &token, "web-1", &state_dir)
        .await
        .unwrap();
    assert_eq!(host_of(&identity).unwrap().as_str(), "web-1");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state_dir), 0o700);
    assert_eq!(mode(&state_dir.join("identity.toml")), 0o600);
    let recorded = enrolment(&state_dir).unwrap().unwrap();
    assert_eq!(recorded.controller(), Some(controller.url()));
}

#[tokio::test]
async fn a_token_that_is_used_up_says_so_and_changes_nothing() {
    let controller = TestController::start().await;
    let dir = tempfile::tempdir().unwrap();
    let token = controller.token(1, None);
    let first = try_enrol(&controller.url(), &token, "web-1", dir.path())
        .await
        .unwrap();
    let error = try_enrol(&controller.url(), &token, "web-1", dir.path())
        .await
        .unwrap_err();
    assert!(matches!(error, EnrolError::Token { .. }), "{error:?}");
    assert!(error.to_string().contains("used up or expired"), "{error}");
    let kept = IdentityStore::open(dir.path()).unwrap().present();
    assert_eq!(kept.facts(), first.facts());
}

#[tokio::test]
async fn a_name_that_the_token_does_not_allow_is_told_with_the_remedy() {
    let controller = TestController::start().await;
    let dir = tempfile::tempdir().unwrap();
    let token = controller.token(1, Some("web-1"));
    let error = try_enrol(&controller.url(), &token, "db-1", dir.path())
        .await
        .unwrap_err();
    assert!(matches!(error, EnrolError::Name { .. }), "{error:?}");
    assert!(error.to_string().contains("--name"), "{error}");
}

#[tokio::test]
async fn nobody_there_is_told_with_the_remedy() {
    let controller = TestController::start().await;
    let (url, token) = (controller.url(), controller.token(1, None));
    controller.stop().await;
    let dir = tempfile::tempdir().unwrap();
    let error = try_enrol(&url, &token, "web-1", dir.path())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("is the controller running"),
        "{error}"
    );
}

#[tokio::test]
async fn another_controller_than_the_token_names_gets_no_secret() {
    let controller = TestController::start().await;
    let dir = tempfile::tempdir().unwrap();
    let token = Token::generate(Pin::from_bytes([7; 32])).unwrap();
    let error = try_enrol(&controller.url(), &token, "web-1", dir.path())
        .await
        .unwrap_err();
    assert!(matches!(error, EnrolError::Unreachable { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("do not enrol until you know which"),
        "{error}"
    );
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        0,
        "something was written"
    );
}

#[tokio::test]
async fn enrolling_again_replaces_the_identity_of_a_running_agent() {
    let controller = TestController::start().await;
    let dir = tempfile::tempdir().unwrap();
    let token = controller.token(2, None);
    let first = try_enrol(&controller.url(), &token, "web-1", dir.path())
        .await
        .unwrap();
    let running = IdentityStore::open(dir.path()).unwrap();
    let second = try_enrol(&controller.url(), &token, "web-1", dir.path())
        .await
        .unwrap();
    // A renewal that began before the second enrolment must not undo it.
    let late = controller
        .shared
        .ca
        .identity("web-1", jiff::SignedDuration::from_hours(1));
    assert!(!running.renew(&first, late).unwrap());
    assert_eq!(running.present().facts(), second.facts());
    let on_disk = IdentityStore::open(dir.path()).unwrap().present();
    assert_eq!(on_disk.facts(), second.facts());
}
