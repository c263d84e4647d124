//! Rollouts as operators handle them: creating and steering. What follows from it is the planner's.

use std::sync::Arc;

use comber_model::event::EventKind;
use comber_model::rollout::{Rollout, RolloutSpec};
use comber_model::{Invalid, RolloutId};
use comber_planner::Command;

use super::edit::Edit;
use super::{Core, CoreError};

impl Core {
    /// Makes a draft, after checking that its release exists.
    pub async fn create_rollout(
        &self,
        spec: RolloutSpec,
        actor: &str,
    ) -> Result<RolloutId, CoreError> {
        let actor = actor.to_owned();
        self.ask_packages_of(&spec).await?;
        self.edit(move |edit| create(edit, spec, &actor)).await
    }

    /// Starts, pauses, resumes, aborts or rolls back a rollout.
    pub async fn command(
        &self,
        id: RolloutId,
        command: Command,
        actor: &str,
    ) -> Result<(), CoreError> {
        let actor = actor.to_owned();
        self.edit(move |edit| steer(edit, id, command, &actor))
            .await
    }
}

fn create(edit: &mut Edit<'_>, spec: RolloutSpec, actor: &str) -> Result<RolloutId, CoreError> {
    let mut problems = spec.problems();
    if !edit.world.input.releases.contains_key(&spec.release) {
        let problem = format!(
            "{} is not published; publish it with: comber release publish, or see: comber release list",
            spec.release
        );
        problems.insert(0, Invalid::new("release", problem));
    }
    if problems.is_empty() {
        edit.world.must_be_installable(&spec.release, edit.wall)?;
    }
    if !problems.is_empty() {
        return Err(CoreError::Invalid(problems));
    }
    let release = edit.world.input.releases.get(&spec.release);
    let asked = comber_planner::asked_packages(&spec, release.map(AsRef::as_ref));
    if !edit.world.asked.has(&asked) {
        let why = "packages that the selector asks for are not at hand; try again";
        return Err(CoreError::Refused(why.to_owned()));
    }
    let id = RolloutId(edit.world.meta.next_rollout);
    edit.world.meta.next_rollout += 1;
    let text = format!("{id} was created for {} by {actor}", spec.release);
    let mut event = edit.event_by(EventKind::RolloutCreated, actor, text);
    event.rollout = Some(id);
    let event = edit.event(&event);
    let rollout = Rollout::draft(id, Arc::new(spec), actor, edit.now);
    edit.put_rollout(rollout, vec![event]);
    Ok(id)
}

fn steer(
    edit: &mut Edit<'_>,
    id: RolloutId,
    command: Command,
    actor: &str,
) -> Result<(), CoreError> {
    let view = edit.world.input.rollouts.get(&id);
    let view = view.ok_or_else(|| CoreError::missing("rollout", id))?;
    match command {
        Command::Start | Command::Resume => {
            let release = view.rollout.spec.release.clone();
            edit.world.must_be_installable(&release, edit.wall)?;
        }
        Command::Pause | Command::Abort | Command::RollBack => {}
    }
    let effect = comber_planner::command(&edit.world.input, id, command, actor, edit.now)
        .map_err(|refused| CoreError::Refused(refused.to_string()))?;
    let events = effect
        .events
        .iter()
        .map(|event| edit.event(event))
        .collect();
    tracing::info!(rollout = %id, state = %effect.rollout.state, actor, "rollout steered");
    edit.put_rollout(effect.rollout, events);
    Ok(())
}
