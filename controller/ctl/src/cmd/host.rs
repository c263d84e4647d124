//! `comber host list|show|packages|label|revoke|resolve|retire`: the inventory.
//!
//! Invariant: revoking and retiring ask first; labelling says exactly which hosts are different now.

use std::collections::HashMap;

use clap::{Args, Subcommand};
use comber_proto::host::v1::{
    GetHostRequest, Host, LabelHostsRequest, ListHostsRequest, ListPackagesRequest,
    ListPackagesResponse, ResolveHostRequest, RetireHostRequest, RevokeHostRequest,
};

use super::promised;
use crate::args::Confirm;
use crate::client::Client;
use crate::error::{CliError, Outcome};
use crate::render::{self, json};
use crate::session::Session;

/// Largest page that the controller gives.
const PAGE: u32 = 1000;
/// Tries to read a list of packages whole while it changes.
const WHOLE_TRIES: usize = 3;

/// Lists, labels, revokes and retires hosts.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:
  comber host list --selector 'labels.role == \"web\"'")]
pub(crate) enum HostCommand {
    /// List hosts
    List(ListArgs),
    /// Show everything about one host
    Show(ShowArgs),
    /// List the packages installed on one host
    Packages(PackagesArgs),
    /// Set and remove labels
    Label(LabelArgs),
    /// Refuse a host's certificates until it is enrolled again
    Revoke(RevokeArgs),
    /// Let a host in again that was taken for a clone
    Resolve(ResolveArgs),
    /// Take a host out of the fleet
    Retire(RetireArgs),
}

/// Lists hosts by name.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber host list
  comber host list --selector 'labels.role == \"web\" && facts.os.id == \"debian\"' --output json
  comber host list --selector 'facts.reboot_required || size(facts.failed_units) > 0'
  comber host list --selector 'facts.packages[\"openssl\"] == \"3.0.11-1\"'")]
pub(crate) struct ListArgs {
    /// Only hosts that this CEL expression over labels and facts is true for
    #[arg(
        short,
        long,
        value_name = "CEL",
        default_value = "",
        hide_default_value = true
    )]
    selector: String,
    /// Retired ones too
    #[arg(long)]
    retired: bool,
    /// At most so many; 0 for all
    #[arg(long, default_value_t = 1000, value_name = "N")]
    limit: u32,
}

/// Shows everything about one host: facts, what it runs, and its part in each rollout.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber host show web-1")]
pub(crate) struct ShowArgs {
    host: String,
}

/// Lists the packages installed on one host, as it last reported them; as JSON with their purls.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber host packages web-1
  comber host packages web-1 --output json")]
pub(crate) struct PackagesArgs {
    host: String,
}

/// Sets and removes labels: key=value sets, key- removes. Words without = and a last - are hosts.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber host label web-1 web-2 role=web rack-
  comber host label --selector 'facts.arch == \"aarch64\"' arch=arm")]
pub(crate) struct LabelArgs {
    /// Hosts, then labels
    #[arg(
        required = true,
        value_name = "HOST|KEY=VALUE|KEY-",
        allow_hyphen_values = false
    )]
    words: Vec<String>,
    /// Every host that this CEL expression is true for, in place of named ones
    #[arg(
        short,
        long,
        value_name = "CEL",
        default_value = "",
        hide_default_value = true
    )]
    selector: String,
}

/// Refuses every certificate of a host and ends its connections, at once. It stays in the fleet, and is let in when it is
/// enrolled again with a new token.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber host revoke web-1
  comber host revoke web-1 --reason 'disk was stolen' --yes")]
pub(crate) struct RevokeArgs {
    host: String,
    /// Why, for events and lists
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    reason: String,
    #[command(flatten)]
    confirm: Confirm,
}

/// Lets a host in again that was barred because two machines seemed to hold its key. Do it only where you know that one
/// machine holds it; else enrol both again, each with a token and a name of its own.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber host resolve web-1")]
pub(crate) struct ResolveArgs {
    host: String,
    #[command(flatten)]
    confirm: Confirm,
}

/// Takes a host out of the fleet: its stream ends and its certificate is refused from now on.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  comber host retire web-1")]
pub(crate) struct RetireArgs {
    host: String,
    #[command(flatten)]
    confirm: Confirm,
}

/// Does what was asked.
pub(crate) async fn run(command: HostCommand, session: &Session) -> Outcome<()> {
    match command {
        HostCommand::List(args) => list(args, session).await,
        HostCommand::Show(args) => show(args, session).await,
        HostCommand::Packages(args) => packages(args, session).await,
        HostCommand::Label(args) => label(args, session).await,
        HostCommand::Revoke(args) => revoke(args, session).await,
        HostCommand::Resolve(args) => resolve(args, session).await,
        HostCommand::Retire(args) => retire(args, session).await,
    }
}

async fn list(args: ListArgs, session: &Session) -> Outcome<()> {
    let client = session.client().await?;
    let (hosts, total) = pages(&client, &args).await?;
    session.screen.show(
        || json::Hosts::new(&hosts, total),
        |view| render::hosts(view, &hosts, total),
    )
}

async fn pages(client: &Client, args: &ListArgs) -> Outcome<(Vec<Host>, u32)> {
    let limit = if args.limit == 0 {
        usize::MAX
    } else {
        args.limit as usize
    };
    let mut hosts = Vec::new();
    let mut page_token = String::new();
    loop {
        let left = u32::try_from(limit - hosts.len()).unwrap_or(PAGE);
        let request = ListHostsRequest {
            selector: args.selector.clone(),
            retired: args.retired,
            page_token,
            page_size: left.min(PAGE),
        };
        let answer = client.answered("list hosts", client.hosts().list_hosts(request).await)?;
        hosts.extend(answer.hosts);
        hosts.truncate(limit);
        if answer.next_page_token.is_empty() || hosts.len() == limit {
            return Ok((hosts, answer.total));
        }
        page_token = answer.next_page_token;
    }
}

async fn show(args: ShowArgs, session: &Session) -> Outcome<()> {
    let client = session.client().await?;
    let request = GetHostRequest { id: args.host };
    let answer = client.answered("show the host", client.hosts().get_host(request).await)?;
    session.screen.show(
        || json::HostDetail::from(&answer),
        |view| render::host(view, &answer),
    )
}

async fn packages(args: PackagesArgs, session: &Session) -> Outcome<()> {
    let client = session.client().await?;
    let list = package_list(&client, &args.host).await?;
    session.screen.show(
        || json::HostPackages::new(&args.host, &list),
        |view| render::packages(view, &args.host, &list),
    )
}

/// All pages as one.
async fn package_list(client: &Client, host: &str) -> Outcome<ListPackagesResponse> {
    let doing = "list the packages of the host";
    let mut whole = ListPackagesResponse::default();
    let mut tries = 0;
    loop {
        let request = ListPackagesRequest {
            id: host.to_owned(),
            page_token: whole.next_page_token.clone(),
            page_size: PAGE,
        };
        let page = client.answered(doing, client.hosts().list_packages(request).await)?;
        if !whole.packages.is_empty() && page.summary != whole.summary && tries < WHOLE_TRIES {
            // The host reported another list meanwhile; a mix of both would be true at no time.
            tries += 1;
            whole = ListPackagesResponse::default();
            continue;
        }
        whole.summary = page.summary;
        whole.packages.extend(page.packages);
        whole.next_page_token = page.next_page_token;
        if whole.next_page_token.is_empty() {
            return Ok(whole);
        }
    }
}

async fn label(args: LabelArgs, session: &Session) -> Outcome<()> {
    let request = label_request(args)?;
    let client = session.client().await?;
    let answer = client.answered("label hosts", client.hosts().label_hosts(request).await)?;
    let changed = answer.changed;
    session.screen.show(
        || json::Changed {
            changed: changed.clone(),
        },
        |_| match changed.as_slice() {
            [] => "no label is different now\n".to_owned(),
            names => format!("changed {}: {}\n", names.len(), names.join(" ")),
        },
    )
}

/// Sorts the words into hosts, labels to set and labels to remove.
fn label_request(args: LabelArgs) -> Outcome<LabelHostsRequest> {
    let (mut hosts, mut set, mut remove) = (Vec::new(), HashMap::new(), Vec::new());
    for word in args.words {
        if let Some((key, value)) = word.split_once('=') {
            set.insert(key.to_owned(), value.to_owned());
        } else if let Some(key) = word.strip_suffix('-') {
            remove.push(key.to_owned());
        } else {
            hosts.push(word);
        }
    }
    if set.is_empty() && remove.is_empty() {
        return Err(
            CliError::usage("no label is given").hint("key=value sets one, key- removes one")
        );
    }
    match (hosts.is_empty(), args.selector.is_empty()) {
        (true, true) => {
            Err(CliError::usage("no host is given").hint("name hosts, or give --selector"))
        }
        (false, false) => Err(CliError::usage("hosts are named and a selector is given")
            .hint("give the one or the other")),
        (_, _) => Ok(LabelHostsRequest {
            hosts,
            selector: args.selector,
            set,
            remove,
        }),
    }
}

async fn revoke(args: RevokeArgs, session: &Session) -> Outcome<()> {
    let client = session.client().await?;
    let question = format!(
        "Revoke {}? It is cut off until it is enrolled again.",
        args.host
    );
    session.screen.confirm(args.confirm.yes, &question)?;
    let doing = "revoke the host";
    let request = RevokeHostRequest {
        id: args.host,
        reason: args.reason,
    };
    let answer = client.answered(doing, client.hosts().revoke_host(request).await)?;
    let host = promised(doing, answer.host)?;
    session.screen.show(
        || json::Host::from(&host),
        |_| {
            format!(
                "{} is revoked; to let it in, enrol it again with a new token\n",
                host.id
            )
        },
    )
}

async fn resolve(args: ResolveArgs, session: &Session) -> Outcome<()> {
    let client = session.client().await?;
    let question = format!(
        "Let {} in again? Only where one machine alone holds its key.",
        args.host
    );
    session.screen.confirm(args.confirm.yes, &question)?;
    let doing = "let the host in again";
    let request = ResolveHostRequest { id: args.host };
    let answer = client.answered(doing, client.hosts().resolve_host(request).await)?;
    let host = promised(doing, answer.host)?;
    session.screen.show(
        || json::Host::from(&host),
        |_| format!("{} is let in again\n", host.id),
    )
}

async fn retire(args: RetireArgs, session: &Session) -> Outcome<()> {
    let client = session.client().await?;
    let question = format!(
        "Retire {}? Its certificate is refused from then on.",
        args.host
    );
    session.screen.confirm(args.confirm.yes, &question)?;
    let doing = "retire the host";
    let request = RetireHostRequest { id: args.host };
    let answer = client.answered(doing, client.hosts().retire_host(request).await)?;
    let host = promised(doing, answer.host)?;
    session.screen.show(
        || json::Host::from(&host),
        |_| {
            format!(
                "{} is retired; to bring it back, enrol it again with a new token\n",
                host.id
            )
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(words: &[&str], selector: &str) -> Outcome<LabelHostsRequest> {
        label_request(LabelArgs {
            words: words.iter().map(ToString::to_string).collect(),
            selector: selector.to_owned(),
        })
    }

    #[test]
    fn words_are_sorted_by_their_form() {
        let request = sorted(&["web-1", "role=web", "rack-", "note=a=b"], "").unwrap();
        assert_eq!(request.hosts, ["web-1"]);
        assert_eq!(request.remove, ["rack"]);
        assert_eq!(request.set["note"], "a=b");
    }

    #[test]
    fn hosts_and_a_selector_exclude_each_other() {
        assert!(sorted(&["web-1", "a=b"], "true").is_err());
        assert!(sorted(&["a=b"], "").is_err());
        assert!(sorted(&["web-1"], "").is_err());
        assert!(sorted(&["a=b"], "true").is_ok());
    }
}
