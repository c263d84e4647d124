//! Rollouts as operators handle them: creating and steering. What follows from it is the planner's.

use std::collections::BTreeMap;
use std::sync::Arc;

use comber_model::event::EventKind;
use comber_model::rollout::{Rollout, RolloutSpec, SourceKind, Verdict};
use comber_model::{Invalid, RolloutId, SourceName};
use comber_planner::{Command, QuestionId};

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

    /// Says what gates may ask, from the configuration; not kept.
    pub async fn set_sources(
        &self,
        sources: BTreeMap<SourceName, SourceKind>,
    ) -> Result<(), CoreError> {
        let put = move |edit: &mut Edit<'_>| {
            edit.world.input.sources = sources;
            Ok(())
        };
        self.edit(put).await
    }

    /// Takes in what a source said to a gate's question. One that nobody waits for any more changes nothing.
    pub async fn answer_gate(
        &self,
        question: QuestionId,
        verdict: Verdict,
        reason: String,
    ) -> Result<(), CoreError> {
        let put = move |edit: &mut Edit<'_>| {
            let said = (verdict, reason.as_str());
            let effect = comber_planner::answer(&edit.world.input, &question, said, edit.now);
            if let Some(effect) = effect {
                let events = effect.events.iter();
                let events = events.map(|event| edit.event(event)).collect();
                edit.put_rollout(effect.rollout, events);
            }
            Ok(())
        };
        self.edit(put).await
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
    problems.extend(comber_planner::unknown_sources(&edit.world.input, &spec));
    if let Some(release) = edit.world.input.releases.get(&spec.release) {
        problems.extend(comber_planner::deadline_problems(&spec, release));
    }
    if !edit.world.input.releases.contains_key(&spec.release) {
        let problem = format!(
            "{} is not published; publish it with: comber release publish, or see: comber release list",
            spec.release
        );
        problems.insert(0, Invalid::new("release", problem));
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
    if !edit.world.input.rollouts.contains_key(&id) {
        return Err(CoreError::missing("rollout", id));
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
