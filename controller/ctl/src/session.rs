//! What one run of the command works with: the screen, the clock, the contexts, and the way to the controller.
//!
//! Reads and renews the operator's identity. Invariant: an identity that cannot be renewed yet still works until it is
//! over; renewal never fails a command.

use std::path::{Path, PathBuf};
use std::time::Duration;

use comber_proto::enrolment::v1::RenewRequest;
use comber_runtime::bearer::BearerToken;
use comber_runtime::clock::Clock;
use comber_runtime::identity::{Identity, PrivateKey, make_csr};
use comber_runtime::tls;
use http::Uri;

use crate::client::{Bearer, Client};
use crate::context::{Context, Contexts};
use crate::error::{CliError, Outcome, failed};
use crate::exit::Exit;
use crate::screen::Screen;
use crate::status::ENROL_AGAIN;

/// One run of the command.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// Where output goes.
    pub(crate) screen: Screen,
    /// The time.
    pub(crate) clock: Clock,
    /// The directory of contexts.
    pub(crate) config: PathBuf,
    /// The context named on the command line.
    pub(crate) context: Option<String>,
    /// How long to try to connect.
    pub(crate) patience: Duration,
}

impl Session {
    /// What is known of controllers.
    pub(crate) fn contexts(&self) -> Outcome<Contexts> {
        Contexts::load(&self.config)
    }

    /// Connects to the controller as the operator; renews the certificate when it is due.
    pub(crate) async fn client(&self) -> Outcome<Client> {
        let context = self.contexts()?.pick(self.context.as_deref())?;
        if let Some(token) = context.load_token()? {
            return self.with_token(&context.uri()?, &token).await;
        }
        let identity = context.load_identity()?;
        let now = self.clock.wall();
        if identity.facts().is_expired(now) {
            return Err(
                CliError::new(Exit::NotPermitted, "the operator's certificate is over")
                    .because(format!(
                        "it ended at {}, and it is {now} now",
                        identity.facts().not_after
                    ))
                    .hint(ENROL_AGAIN),
            );
        }
        let client = self.connect(&context, &identity).await?;
        // The largest draw is two thirds of a life.
        if now < identity.facts().renew_at(u64::MAX) {
            return Ok(client);
        }
        match self.renew(&client, &context).await {
            Ok(renewed) => self.connect(&context, &renewed).await,
            Err(error) => {
                let cause = error.causes.first().cloned().unwrap_or_default();
                let end = identity.facts().not_after;
                self.screen.note(&format!(
                    "warning: {}: {cause}; it ends at {end}",
                    error.what
                ));
                Ok(client)
            }
        }
    }

    /// Connects as the operator of a token; the controller is the one whose CA the token names.
    pub(crate) async fn with_token(&self, url: &Uri, token: &BearerToken) -> Outcome<Client> {
        let cannot = || CliError::configuration("the operator's token cannot be used");
        let config = tls::enrolment_client(token.pin(), &self.clock)
            .map_err(|error| cannot().caused_by(&error))?;
        let bearer = Bearer::new(token).ok_or_else(cannot)?;
        let client = Client::connect(url, &config, self.patience, &self.screen).await?;
        Ok(client.bearing(bearer))
    }

    async fn connect(&self, context: &Context, identity: &Identity) -> Outcome<Client> {
        let config = tls::client(identity, &self.clock).map_err(|error| {
            CliError::configuration("the operator's identity cannot be used").caused_by(&error)
        })?;
        Client::connect(&context.uri()?, &config, self.patience, &self.screen).await
    }

    async fn renew(&self, client: &Client, context: &Context) -> Outcome<Identity> {
        let doing = "renew the operator's certificate";
        let cannot = || failed(format!("cannot {doing}"));
        let key = PrivateKey::generate().map_err(|error| cannot()(&error))?;
        let request = RenewRequest {
            signing_request: make_csr(&key, &context.entry.operator)
                .map_err(|error| cannot()(&error))?,
        };
        let answer = client.answered(doing, client.enrolment().renew(request).await)?;
        let identity = Identity::new(key, answer.certificate_chain, answer.ca)
            .map_err(|error| cannot()(&error))?;
        identity
            .save(&context.identity)
            .map_err(|error| cannot()(&error))?;
        Ok(identity)
    }
}

/// The directory of contexts: given, or by the XDG rules.
pub(crate) fn config_dir(given: Option<&Path>, xdg: Option<&Path>) -> Outcome<PathBuf> {
    let by_xdg = || {
        xdg.filter(|path| path.is_absolute())
            .map(|path| path.join("comber"))
    };
    let by_home = || std::env::home_dir().map(|home| home.join(".config/comber"));
    given
        .map(Path::to_owned)
        .or_else(by_xdg)
        .or_else(by_home)
        .ok_or_else(|| {
            CliError::configuration("no home directory is known").hint("give --config DIR")
        })
}
