//! The table against the descriptors and the documentation, and the decisions that it leads to.

use std::fs;
use std::path::Path;

use comber_model::access::{Grants, Role};
use prost::Message as _;
use prost_types::FileDescriptorSet;

use super::*;

fn rpcs() -> Vec<String> {
    let set = FileDescriptorSet::decode(comber_proto::DESCRIPTORS).unwrap();
    let mut paths = Vec::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                let (package, service) = (file.package(), service.name());
                paths.push(format!("/{package}.{service}/{}", method.name()));
            }
        }
    }
    paths
}

fn operator(role: Role) -> Arc<Operator> {
    Arc::new(Operator {
        name: "ada".to_owned(),
        grants: Grants::new([(role, Scope::Fleet)]).unwrap(),
        groups: std::collections::BTreeSet::default(),
        created_by: "test".to_owned(),
        created_at: Timestamp::UNIX_EPOCH,
        expires_at: None,
        revoked_at: None,
        certificates_since: Timestamp::UNIX_EPOCH,
        tokens: Vec::new(),
    })
}

#[test]
fn every_rpc_has_one_row_and_every_row_an_rpc() {
    let rpcs = rpcs();
    assert!(rpcs.len() > 20, "the descriptors are empty");
    for rpc in &rpcs {
        let rows = TABLE.iter().filter(|row| row.path == rpc).count();
        assert_eq!(rows, 1, "{rpc} needs exactly one row in the table");
    }
    for row in TABLE.iter().filter(|row| row.path.starts_with("/comber.")) {
        assert!(
            rpcs.iter().any(|rpc| rpc == row.path),
            "{} is no rpc",
            row.path
        );
    }
}

#[test]
fn what_a_viewer_may_call_changes_nothing() {
    let viewer = operator(Role::Viewer);
    let proof = Proof::Certificate(Timestamp::UNIX_EPOCH);
    for row in TABLE {
        let entered = allowed(row, &Known::Operator(&viewer, proof.clone())).is_ok();
        let harmless = matches!(row.reaches, Reaches::Nothing | Reaches::Itself);
        assert!(harmless || !entered, "a viewer may call {}", row.path);
        if row.needs == Needs::Role(Role::Viewer) {
            assert_eq!(row.reaches, Reaches::Nothing, "{}", row.path);
        }
    }
}

#[test]
fn a_host_and_a_stranger_can_change_nothing_of_an_operators() {
    for row in TABLE {
        let host = allowed(row, &Known::Host("web-1")).is_ok();
        let stranger = allowed(row, &Known::Stranger).is_ok();
        assert_eq!(
            host,
            !matches!(row.needs, Needs::Role(_)),
            "host on {}",
            row.path
        );
        assert_eq!(
            stranger,
            row.needs == Needs::Nothing,
            "stranger on {}",
            row.path
        );
    }
}

#[test]
fn an_operator_of_some_hosts_is_refused_what_concerns_all() {
    let scope = Scope::Hosts("labels.team == \"web\"".to_owned());
    let mut scoped = Operator::clone(&operator(Role::Viewer));
    scoped.grants = Grants::new([(Role::Operator, scope)]).unwrap();
    let scoped = Arc::new(scoped);
    let proof = Proof::Certificate(Timestamp::UNIX_EPOCH);
    for row in TABLE
        .iter()
        .filter(|row| row.needs == Needs::Role(Role::Operator))
    {
        let entered = allowed(row, &Known::Operator(&scoped, proof.clone())).is_ok();
        assert_eq!(entered, row.reaches == Reaches::Hosts, "{}", row.path);
    }
}

/// The page's rows, in the order of the table. `COMBER_ACCEPT=1` writes them.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "accepting the new table is asked for by environment"
)]
fn the_documentation_shows_this_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/access.md");
    let text = fs::read_to_string(&path).unwrap();
    let rows: Vec<String> = TABLE.iter().map(shown).collect();
    let table = format!(
        "| rpc | takes | changes |\n|---|---|---|\n{}\n",
        rows.join("\n")
    );
    let (before, after) = text.split_once("<!-- table -->\n").unwrap();
    let (_, after) = after.split_once("<!-- end -->").unwrap();
    let wanted = format!("{before}<!-- table -->\n{table}<!-- end -->{after}");
    if std::env::var_os("COMBER_ACCEPT").is_some() {
        fs::write(&path, &wanted).unwrap();
        return;
    }
    assert_eq!(
        text, wanted,
        "docs/access.md is behind; write it with COMBER_ACCEPT=1"
    );
}

fn shown(row: &Row) -> String {
    let path = row.path.trim_start_matches('/').replace('/', " ");
    let takes = match row.needs {
        Needs::Nothing => "nothing".to_owned(),
        Needs::Host => "a host's certificate".to_owned(),
        Needs::Certificate => "any certificate".to_owned(),
        Needs::Role(role) => role.to_string(),
    };
    let changes = match row.reaches {
        Reaches::Nothing => "nothing",
        Reaches::Itself => "the caller's own",
        Reaches::Hosts => "hosts in scope",
        Reaches::Fleet => "the whole fleet",
    };
    format!("| `{path}` | {takes} | {changes} |")
}

#[test]
fn what_is_not_in_the_table_is_not_there() {
    assert_eq!(find("/comber.secret.v1.SecretService/Read"), None);
}

#[test]
fn a_header_that_is_no_token_is_refused() {
    let with = |value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        bearer(&headers)
    };
    assert_eq!(bearer(&HeaderMap::new()).unwrap(), None);
    for wrong in ["", "Bearer", "Basic YTpi", "Bearer x", "Bearer cmb1_abc"] {
        let refused = with(wrong).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{wrong}");
    }
    let pin = comber_runtime::tls::Pin::from_bytes([1; 32]);
    let token = BearerToken::generate(pin).unwrap();
    let read = with(&format!("bearer {}", token.reveal())).unwrap();
    assert_eq!(read, Some(token));
}
