//! Releases: publishing and deleting. The bytes are elsewhere and already durable, or not yet removed.

use comber_model::event::EventKind;
use comber_model::release::Release;
use comber_model::rollout::{Member, RolloutState};
use comber_model::{Digest, ReleaseId, RolloutId};

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
    let needed = needed_by(edit.world, id);
    if !needed.is_empty() {
        let rollouts: Vec<String> = needed.iter().map(ToString::to_string).collect();
        return Err(CoreError::Refused(format!(
            "{id} is needed by {}: to finish, to catch up or to go back to; abort them first",
            rollouts.join(", ")
        )));
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

/// Rollouts that still bring this release to hosts, or may have to take hosts back to it.
fn needed_by(world: &World, id: &ReleaseId) -> Vec<RolloutId> {
    let goes_back =
        |member: &Member| matches!(&member.before, Some(Some(version)) if *version == id.version);
    let needs = |view: &comber_planner::RolloutView| {
        let rollout = &view.rollout;
        let over = match rollout.state {
            RolloutState::Aborted => true,
            // Hosts that were not reached still catch up when they return.
            RolloutState::Completed => {
                let outcomes = view.outcomes();
                outcomes.unreached + outcomes.pending == 0
            }
            RolloutState::Draft
            | RolloutState::Running
            | RolloutState::Paused
            | RolloutState::Halted
            | RolloutState::RollingBack => false,
        };
        let brings = rollout.spec.release == *id;
        let same_product = rollout.spec.release.name == id.name;
        !over && (brings || (same_product && view.members.values().any(goes_back)))
    };
    let views = world.input.rollouts.values().filter(|view| needs(view));
    views.map(|view| view.rollout.id).collect()
}
