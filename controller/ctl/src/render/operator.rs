//! Operators as a table and one by one, and what is said beside a new token.
//!
//! Pure. Invariant: no secret is shown here, and whether an operator may do anything now is always said.

use comber_proto::access::v1::{Operator, OperatorToken};

use super::table::{Table, cell, prose, text, whole};
use super::text::wrap;
use super::{Paint, View, at};

/// One row each.
pub(crate) fn operators(view: &View, operators: &[Operator]) -> String {
    if operators.is_empty() {
        return "no operator has a record yet; one gets it with its first call\n".to_owned();
    }
    let mut table = Table::new([
        text("OPERATOR", 12, 9),
        text("STATE", 7, 8),
        prose("ROLES", 8, 7),
        prose("GROUPS", 6, 4),
        text("TOKENS", 6, 3),
        text("MADE BY", 6, 2),
        whole("MADE", 1),
    ]);
    for operator in operators {
        let (paint, state) = state(view, operator);
        table.row([
            operator.name.clone().into(),
            cell(paint, state),
            roles(operator).into(),
            operator.groups.join(", ").into(),
            operator.tokens.len().to_string().into(),
            operator.created_by.clone().into(),
            view.ago(operator.created_at).into(),
        ]);
    }
    table.render(view)
}

/// One operator with its tokens.
pub(crate) fn operator(view: &View, operator: &Operator) -> String {
    let (paint, state) = state(view, operator);
    let mut out = format!("{}  {}\n", operator.name, view.paint(paint, &state));
    out.push_str(&wrap(view, "  ", &format!("roles: {}", roles(operator))));
    if !operator.groups.is_empty() {
        let groups = format!("groups: {}", operator.groups.join(", "));
        out.push_str(&wrap(view, "  ", &groups));
    }
    let made = format!(
        "made by {} {}",
        operator.created_by,
        view.ago(operator.created_at)
    );
    out.push_str(&wrap(view, "  ", &made));
    if operator.tokens.is_empty() {
        return out;
    }
    let mut table = Table::new([
        text("TOKEN", 12, 9),
        whole("ENDS", 8),
        prose("PURPOSE", 8, 5),
        text("MADE BY", 6, 3),
        whole("MADE", 1),
    ]);
    for token in &operator.tokens {
        let ends = match token.revoked_at {
            Some(_) => "revoked".to_owned(),
            None => view.left(token.expires_at).unwrap_or_default(),
        };
        table.row([
            token.id.clone().into(),
            ends.into(),
            token.purpose.clone().into(),
            token.created_by.clone().into(),
            view.ago(token.created_at).into(),
        ]);
    }
    out.push('\n');
    out.push_str(&table.render(view));
    out
}

/// Who is there now, and how it enrols.
pub(crate) fn operator_note(view: &View, address: &str, operator: &Operator) -> String {
    let text = format!(
        "operator {} is {}; the token enrols it once within a day and is not shown again",
        operator.name,
        roles(operator)
    );
    let there = format!(
        "there: comber init --controller {address} --name {} --token-file FILE",
        operator.name
    );
    format!("{}{there}", wrap(view, "", &text))
}

/// What a new bearer token is good for.
pub(crate) fn operator_token_note(view: &View, name: &str, token: &OperatorToken) -> String {
    let ends = view.left(token.expires_at).unwrap_or_default();
    format!(
        "token {} proves {name} and ends {ends}; it is not shown again",
        token.id
    )
}

/// In words, for example `operator of labels.team == "web", approver`.
pub(crate) fn roles(operator: &Operator) -> String {
    let words = operator.grants.iter().map(|grant| {
        if grant.selector.is_empty() {
            grant.role.clone()
        } else {
            format!("{} of {}", grant.role, grant.selector)
        }
    });
    words.collect::<Vec<_>>().join(", ")
}

fn state(view: &View, operator: &Operator) -> (Paint, String) {
    let over = at(operator.expires_at).is_some_and(|end| end <= view.now);
    match (operator.revoked_at, operator.expires_at) {
        (Some(_), _) => (Paint::Bad, "revoked".to_owned()),
        (None, Some(_)) if over => (Paint::Bad, "ended".to_owned()),
        (None, Some(end)) => {
            let left = view.left(Some(end)).unwrap_or_default();
            (Paint::Good, format!("ends {left}"))
        }
        (None, None) => (Paint::Good, "active".to_owned()),
    }
}
