//! Hosts as operators handle them: labels and retirement.

use std::collections::BTreeMap;

use comber_model::event::EventKind;
use comber_model::{Host, HostId, Labels};

use super::agents::Ending;
use super::edit::Edit;
use super::{Core, CoreError, revocations};

impl Core {
    /// Sets and removes labels on all named hosts or, where one is unknown or one label wrong, on none. Gives the hosts
    /// that are different now.
    pub async fn label_hosts(
        &self,
        hosts: Vec<HostId>,
        set: BTreeMap<String, String>,
        remove: Vec<String>,
        actor: &str,
    ) -> Result<Vec<HostId>, CoreError> {
        let actor = actor.to_owned();
        self.edit(move |edit| label(edit, &hosts, &set, &remove, &actor))
            .await
    }

    /// Takes a host out of the fleet; its connections end.
    pub async fn retire_host(&self, host: &HostId, actor: &str) -> Result<(), CoreError> {
        let (host, actor) = (host.clone(), actor.to_owned());
        self.edit(move |edit| retire(edit, &host, &actor)).await
    }
}

fn label(
    edit: &mut Edit<'_>,
    hosts: &[HostId],
    set: &BTreeMap<String, String>,
    remove: &[String],
    actor: &str,
) -> Result<Vec<HostId>, CoreError> {
    let mut edited: Vec<Host> = Vec::new();
    for id in hosts {
        let view = edit
            .world
            .active_host(id)
            .ok_or_else(|| CoreError::missing("host", id))?;
        let labels = view
            .host
            .labels
            .edited(set.clone(), remove.iter().map(String::as_str));
        let labels = labels.map_err(|error| CoreError::Invalid(vec![error]))?;
        if labels != view.host.labels {
            edited.push(Host {
                labels,
                ..view.host.clone()
            });
        }
    }
    let changed = edited.iter().map(|host| host.id.clone()).collect();
    for host in edited {
        let text = format!("labels of {} are now {}", host.id, words(&host.labels));
        let mut event = edit.event_by(EventKind::HostLabelled, actor, text);
        event.host = Some(host.id.clone());
        let event = edit.event(&event);
        edit.put_host(host, vec![event]);
    }
    Ok(changed)
}

fn words(labels: &Labels) -> String {
    let words: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    if words.is_empty() {
        "none".to_owned()
    } else {
        words.join(" ")
    }
}

fn retire(edit: &mut Edit<'_>, id: &HostId, actor: &str) -> Result<(), CoreError> {
    let view = edit
        .world
        .input
        .hosts
        .get(id)
        .ok_or_else(|| CoreError::missing("host", id))?;
    if view.host.retired_at.is_some() {
        return Ok(());
    }
    let mut host = Host {
        retired_at: Some(edit.now),
        packages: None,
        barred: None,
        ..view.host.clone()
    };
    let mut event = edit.event_by(EventKind::HostRetired, actor, format!("{id} was retired"));
    event.host = Some(id.clone());
    let mut ops = vec![edit.event(&event)];
    edit.world.presences.remove(id);
    ops.extend(super::packages::forget(edit, id));
    ops.extend(revocations::revoke_issued(edit, &mut host, Some(actor)));
    edit.put_host(host, ops);
    revocations::end_stream(edit, id, Ending::Retired);
    Ok(())
}
