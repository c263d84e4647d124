//! The short calls: a certificate for a token, a certificate for the one before it.
//!
//! Each makes its own connection and gives it up. Texts of the controller are cut and cleaned before they reach a log.

use std::time::Duration;

use comber_proto::enrolment::v1::{
    EnrolRequest, IdentityKind, RenewRequest, enrolment_service_client::EnrolmentServiceClient,
};
use comber_runtime::{
    channel::{self, ChannelSettings},
    tls::explain,
};
use http::Uri;
use rustls::ClientConfig;
use thiserror::Error;
use tonic::{Code, Status, transport::Channel};

/// Largest answer: a chain and two CAs are under 8 kB, a root has at most 256 kB.
const ANSWER_MAX: usize = 512 * 1024;
/// Longest text of the controller that is repeated.
const TEXT_MAX: usize = 300;

/// Where and how to call.
#[derive(Clone, Copy, Debug)]
pub struct Callee<'a> {
    /// `https://host:port`.
    pub controller: &'a Uri,
    /// Whom to trust and what to present.
    pub tls: &'a ClientConfig,
    /// Timeouts.
    pub channel: &'a ChannelSettings,
}

/// A new certificate, as PEM, not looked at yet.
#[derive(Clone, Debug)]
pub struct IssuedPem {
    /// The certificate and what leads to the CA.
    pub chain: String,
    /// What to trust.
    pub ca: String,
    /// The publisher's root as the controller knows it; empty where it knows none.
    pub release_root: String,
}

/// Why a call gave nothing.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum CallError {
    /// No connection, or it broke.
    #[error("{explained}")]
    Unreachable {
        /// The cause, with the remedy where it is known.
        explained: String,
    },
    /// The connection is there and nothing comes.
    #[error("the controller gave no answer within {0:?}")]
    Timeout(Duration),
    /// It does not know who we are, or the token.
    #[error("the controller does not accept us: {0}")]
    Unauthenticated(String),
    /// It knows us and says no.
    #[error("the controller refuses: {0}")]
    Denied(String),
    /// Anything else.
    #[error("the controller answers with an error: {0}")]
    Other(String),
}

/// Exchanges a token's secret for a certificate of a host called `name`.
pub async fn enrol(
    callee: Callee<'_>,
    secret: &[u8],
    name: &str,
    signing_request: String,
) -> Result<IssuedPem, CallError> {
    let request = EnrolRequest {
        secret: secret.to_vec(),
        name: name.to_owned(),
        kind: IdentityKind::Host.into(),
        signing_request,
    };
    let answer = within(callee, async |mut client| client.enrol(request).await).await?;
    let answer = answer.into_inner();
    Ok(IssuedPem {
        chain: answer.certificate_chain,
        ca: answer.ca,
        release_root: answer.release_root,
    })
}

/// Asks for a certificate that follows the one that `callee` presents.
pub async fn renew(callee: Callee<'_>, signing_request: String) -> Result<IssuedPem, CallError> {
    let request = RenewRequest { signing_request };
    let answer = within(callee, async |mut client| client.renew(request).await).await?;
    let answer = answer.into_inner();
    Ok(IssuedPem {
        chain: answer.certificate_chain,
        ca: answer.ca,
        release_root: String::new(),
    })
}

async fn within<T>(
    callee: Callee<'_>,
    call: impl AsyncFnOnce(EnrolmentServiceClient<Channel>) -> Result<T, Status>,
) -> Result<T, CallError> {
    let calling = async {
        let channel = channel::connect(callee.controller, callee.tls, callee.channel)
            .await
            .map_err(|error| CallError::Unreachable {
                explained: explain(&error),
            })?;
        let client = EnrolmentServiceClient::new(channel).max_decoding_message_size(ANSWER_MAX);
        call(client).await.map_err(|status| failed(&status))
    };
    // The connection has its own limit; twice that leaves as much for the answer.
    let limit = callee.channel.connect_timeout * 2;
    match tokio::time::timeout(limit, calling).await {
        Ok(answered) => answered,
        Err(_) => Err(CallError::Timeout(limit)),
    }
}

/// What a failed call means. A broken connection is told with its TLS cause, which `tonic` hides two layers deep.
pub(super) fn failed(status: &Status) -> CallError {
    let text = cleaned(status.message());
    match status.code() {
        Code::Unauthenticated => CallError::Unauthenticated(text),
        Code::PermissionDenied => CallError::Denied(text),
        _ if std::error::Error::source(status).is_some() => CallError::Unreachable {
            explained: cleaned(&explain(status)),
        },
        Code::Unavailable => CallError::Unreachable { explained: text },
        code => CallError::Other(format!("{text} ({code})")),
    }
}

/// Text of the other side, fit for one line of a log.
fn cleaned(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(TEXT_MAX).map(printable).collect()
}
