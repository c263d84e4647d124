//! The first operator's way in: a token on the controller's own disk.

use std::time::Duration;

use anyhow::{Context as _, Result};
use comber_model::Labels;
use comber_model::access::Grants;
use comber_runtime::clock::{Clock, later};
use comber_runtime::fsx;
use comber_runtime::token::Token as TokenText;

use super::control;
use crate::config::ControllerSettings;
use crate::core::{Core, Token};
use crate::pki::Ca;
use crate::pki::tokens::{NamePattern, TokenKind, TokenRecord};

/// Who made such tokens, in events and lists.
const ACTOR: &str = "controller";
/// Long enough to set a fleet up on the day after the installation.
const LIFE: Duration = Duration::from_hours(24);

/// On the first start of a new controller, writes a token for the first operator.
pub(super) async fn bootstrap(
    settings: &ControllerSettings,
    core: &Core,
    ca: &Ca,
    clock: &Clock,
) -> Result<()> {
    if !core.read().await.is_new() {
        return Ok(());
    }
    let text = make(core, ca, clock).await?;
    let path = settings.data_dir.join("admin-token");
    fsx::write_atomic(&path, text.as_bytes(), 0o600)?;
    let name = settings.names.first().map_or("localhost", String::as_str);
    let url = format!("https://{name}:{}", settings.listen.port());
    tracing::info!(
        "new controller; become its first operator with: comber init --controller {url} --token-file {}",
        path.display()
    );
    Ok(())
}

/// Makes an operator's token that can be used once.
pub(super) async fn make(core: &Core, ca: &Ca, clock: &Clock) -> Result<String> {
    let text = TokenText::generate(ca.pin())?;
    let now = clock.steady();
    let record = TokenRecord {
        hash: text.secret_hash(),
        kind: TokenKind::Operator,
        uses_left: 1,
        expires: later(now, LIFE),
        names: NamePattern::any(),
    };
    let (labels, created_by) = (Labels::default(), ACTOR.to_owned());
    core.create_token(Token {
        record,
        labels,
        created_by,
        created_at: now,
        grants: Some(Grants::admin()),
    })
    .await?;
    Ok(text.reveal())
}

/// `comber-controller admin-token`: asks the running controller.
pub(super) fn token(settings: &ControllerSettings) -> Result<()> {
    let answer = control::ask(&settings.data_dir, &control::Request::AdminToken)?;
    let token = answer.context("the controller does not run; start it, then ask again")?;
    println!("{token}");
    Ok(())
}
