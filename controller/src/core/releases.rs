//! Releases: publishing and deleting. The bytes are elsewhere and already durable, or not yet removed.

use comber_model::event::EventKind;
use comber_model::release::Release;
use comber_model::rollout::{Member, RolloutState};
use comber_model::{Digest, ReleaseId};
use comber_planner::RolloutView;

use super::edit::Edit;
use super::{Core, CoreError, World};

impl Core {
    /// Adds a release whose artifact is on disk. True where it was there already, with the same bytes.
    pub async fn publish_release(&self, release: Release) -> Result<bool, CoreError> {
        self.edit(move |edit| publish(edit, release)).await
    }

    /// Removes a release that nothing needs; gives the artifact that may be removed now.
    pub async fn delete_release(&self, id: &ReleaseId, actor: &str) -> Result<Digest, CoreError> {
        let (id, actor) = (id.clone(), actor.to_owned());
        self.edit(move |edit| remove(edit, &id, &actor)).await
    }
}

fn publish(edit: &mut Edit<'_>, release: Release) -> Result<bool, CoreError> {
    let id = release.id();
    if let Some(there) = edit.world.input.releases.get(&id) {
        if there.artifact.digest == release.artifact.digest {
            return Ok(true);
        }
        return Err(CoreError::Exists(format!(
            "{id} is published with other bytes ({}); a release never changes: raise the version",
            there.artifact.digest.short()
        )));
    }
    edit.world.must_list(&id, &release.artifact)?;
    let text = format!("{id} was published by {}", release.published_by);
    let event = edit.event_by(EventKind::ReleasePublished, &release.published_by, text);
    let event = edit.event(&event);
    edit.put_release(release, vec![event]);
    Ok(false)
}

fn remove(edit: &mut Edit<'_>, id: &ReleaseId, actor: &str) -> Result<Digest, CoreError> {
    let release = edit.world.input.releases.get(id);
    let digest = release
        .ok_or_else(|| CoreError::missing("release", id))?
        .artifact
        .digest;
    if let Some(why) = needed_by(edit.world, id) {
        return Err(CoreError::Refused(format!("{id} cannot be deleted: {why}")));
    }
    edit.world.input.releases.remove(id);
    let event = edit.event_by(
        EventKind::ReleaseDeleted,
        actor,
        format!("{id} was deleted"),
    );
    let event = edit.event(&event);
    let key = super::records::release_key(id);
    edit.changes.group(vec![super::changes::delete(key), event]);
    Ok(digest)
}

/// Why a release must stay, for people; nothing where it may go.
fn needed_by(world: &World, id: &ReleaseId) -> Option<String> {
    let views = world.input.rollouts.values();
    let brings = views
        .clone()
        .filter(|view| view.rollout.spec.release == *id && is_unfinished(view));
    let brings: Vec<String> = brings.map(|view| view.rollout.id.to_string()).collect();
    if !brings.is_empty() {
        return Some(format!(
            "{} brings it to hosts; abort that first",
            brings.join(", ")
        ));
    }
    let hosts = world.input.hosts.values().filter(|view| {
        let installed = view
            .status
            .as_ref()
            .and_then(|status| status.installed.get(&id.name));
        let runs = installed.is_some_and(|installed| installed.version == id.version);
        view.host.retired_at.is_none() && runs
    });
    let hosts = hosts.count();
    if hosts > 0 {
        return Some(format!(
            "{hosts} hosts run it; bring them to another version first"
        ));
    }
    let goes_back =
        |member: &Member| matches!(&member.before, Some(Some(version)) if *version == id.version);
    // The newest rollout of a product is the one that can be undone.
    let mut newest = views
        .rev()
        .filter(|view| view.rollout.spec.release.name == id.name);
    let newest = newest.find(|view| view.rollout.started_at.is_some())?;
    let needed = newest.members.values().any(goes_back);
    needed.then(|| {
        format!(
            "rolling back {} would bring it back to hosts",
            newest.rollout.id
        )
    })
}

/// True while a rollout may still bring its release to a host; hosts that were not reached catch up when they return.
fn is_unfinished(view: &RolloutView) -> bool {
    match view.rollout.state {
        RolloutState::Aborted => false,
        RolloutState::Completed => {
            let outcomes = view.outcomes();
            outcomes.unreached + outcomes.pending > 0
        }
        RolloutState::Draft
        | RolloutState::Running
        | RolloutState::Paused
        | RolloutState::Halted
        | RolloutState::RollingBack => true,
    }
}
