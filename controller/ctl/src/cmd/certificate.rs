//! `comber certificate revoke`: one certificate, by its number.
//!
//! Invariant: it asks first, since nothing takes a revocation back.

use clap::{Args, Subcommand};
use comber_proto::enrolment::v1::RevokeCertificateRequest;
use serde::Serialize;

use crate::args::Confirm;
use crate::error::Outcome;
use crate::session::Session;

/// Revokes certificates.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:
  comber certificate revoke 4a0fb1c2d3e4f5061728394a5b6c7d8e")]
pub(crate) enum CertificateCommand {
    /// Refuse one certificate from now on
    Revoke(RevokeArgs),
}

/// Refuses one certificate by its number, whoever holds it, and ends the connections made with it. All of a host are
/// refused by: comber host revoke
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber certificate revoke 4a0fb1c2d3e4f5061728394a5b6c7d8e --yes

The number of a certificate: openssl x509 -noout -serial -in identity.toml")]
pub(crate) struct RevokeArgs {
    /// As openssl x509 -serial prints it
    #[arg(value_name = "NUMBER")]
    serial: String,
    #[command(flatten)]
    confirm: Confirm,
}

/// What was revoked.
#[derive(Debug, Serialize)]
struct Revoked {
    serial: String,
}

/// Does what was asked.
pub(crate) async fn run(command: CertificateCommand, session: &Session) -> Outcome<()> {
    let CertificateCommand::Revoke(args) = command;
    let client = session.client().await?;
    let question = format!(
        "Refuse the certificate {} from now on? Nothing takes that back.",
        args.serial
    );
    session.screen.confirm(args.confirm.yes, &question)?;
    let serial = args.serial.clone();
    let request = RevokeCertificateRequest { serial };
    let answer = client.enrolment().revoke_certificate(request).await;
    client.answered("revoke the certificate", answer)?;
    let serial = args.serial;
    session.screen.show(
        || Revoked {
            serial: serial.clone(),
        },
        |_| format!("the certificate {serial} is refused from now on\n"),
    )
}
