//! Tokens as a table, and what is said beside a new one.
//!
//! Pure. Invariant: no secret is shown here; the token itself is the command's one line on standard output.

use comber_proto::enrolment::v1::{IdentityKind, Token};

use super::View;
use super::table::{Table, number, prose, text, whole};
use super::text::labels;

/// One row each.
pub(crate) fn tokens(view: &View, tokens: &[Token]) -> String {
    if tokens.is_empty() {
        return "no token can be used now; make one: comber token create\n".to_owned();
    }
    let mut table = Table::new([
        text("TOKEN", 12, 9),
        text("FOR", 8, 8),
        number("USES LEFT", 7),
        whole("ENDS", 8),
        text("NAMES", 5, 4),
        prose("LABELS", 8, 2),
        text("MADE BY", 6, 3),
        whole("MADE", 1),
    ]);
    for token in tokens {
        table.row([
            token.id.clone().into(),
            kind_word(token).into(),
            token.uses_left.to_string().into(),
            view.left(token.expires_at).unwrap_or_default().into(),
            token.name_pattern.clone().into(),
            labels(&token.labels).into(),
            token.created_by.clone().into(),
            view.ago(token.created_at).into(),
        ]);
    }
    table.render(view)
}

/// `host` or `operator`.
pub(crate) fn kind_word(token: &Token) -> &'static str {
    match IdentityKind::try_from(token.kind) {
        Ok(IdentityKind::Host) => "host",
        Ok(IdentityKind::Operator) => "operator",
        Ok(IdentityKind::Unspecified) | Err(_) => "unknown",
    }
}

/// What a new token is good for, and how it is used.
pub(crate) fn token_note(view: &View, address: &str, token: &Token) -> String {
    let times = match token.uses_left {
        1 => "once".to_owned(),
        uses => format!("{uses} times"),
    };
    let ends = view
        .left(token.expires_at)
        .unwrap_or_else(|| "never".to_owned());
    let kind = kind_word(token);
    let names = match token.name_pattern.as_str() {
        "" | "*" => String::new(),
        pattern => format!(" under names like {pattern}"),
    };
    let note = format!(
        "token {} enrols a {kind}{names} {times}, ends {ends}; it is not shown again",
        token.id
    );
    match kind {
        "operator" => {
            format!("{note}\nthere: comber init --controller {address} --token-file FILE")
        }
        _ => note,
    }
}
