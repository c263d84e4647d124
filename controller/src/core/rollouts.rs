//! Rollouts as operators handle them: creating and steering. What follows from it is the planner's.

use std::collections::BTreeMap;
use std::sync::Arc;

use comber_model::access::Role;
use comber_model::event::EventKind;
use comber_model::rollout::{Rollout, RolloutSpec, SourceKind, Verdict};
use comber_model::selector::{Selector, Subject};
use comber_model::{HostId, Invalid, RolloutId, SourceName};
use comber_planner::{Command, QuestionId};

use super::edit::Edit;
use super::operators::Reach;
use super::{Core, CoreError, World};

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

impl World {
    /// Holds a rollout that is only looked at to what this operator could make of it.
    pub fn narrow_for(&self, operator: &str, spec: &mut RolloutSpec) -> Result<(), CoreError> {
        match self.operators.get(operator) {
            Some(operator) => Reach::in_role(operator, Role::Operator)?.narrow(self, spec),
            None => Ok(()),
        }
    }
}

impl Reach {
    /// Holds a rollout that is to be made to this reach: one that means a host outside is refused, and its scope keeps
    /// out hosts that come to be selected later.
    pub(crate) fn narrow(&self, world: &World, spec: &mut RolloutSpec) -> Result<(), CoreError> {
        if spec.scope.is_some() && spec.scope.as_deref() != self.source() {
            let problem = "is set by the controller, from the role of the author; leave it out";
            return Err(CoreError::Invalid(vec![Invalid::new("scope", problem)]));
        }
        let Some(scope) = self.source() else {
            return Ok(());
        };
        if let Some(host) = self.outside(world, spec) {
            let what = format!("selector: selects {host}, which is outside");
            let CoreError::Denied(why) = self.refusal(&what) else {
                return Err(self.refusal(&what));
            };
            let remedy = format!("{why}; write: ({}) && ({scope})", spec.selector);
            return Err(CoreError::Denied(remedy));
        }
        spec.scope = Some(scope.to_owned());
        Ok(())
    }

    /// Refuses to touch a rollout that has or means a host outside.
    pub(crate) fn check_rollout(&self, world: &World, id: RolloutId) -> Result<(), CoreError> {
        let Some(view) = world.input.rollouts.get(&id).filter(|_| !self.is_whole()) else {
            return Ok(());
        };
        if view.rollout.spec.scope.as_deref() == self.source() {
            return Ok(());
        }
        let hosts = view
            .members
            .keys()
            .filter_map(|host| world.input.hosts.get(host));
        let member = hosts.map(|view| &view.host).find(|host| !self.has(host));
        let host = member
            .map(|host| host.id.clone())
            .or_else(|| self.outside(world, &view.rollout.spec));
        match host {
            Some(host) => Err(self.refusal(&format!("{id} reaches {host}, which is outside"))),
            None => Ok(()),
        }
    }

    /// A host that the rollout means and that is outside.
    fn outside(&self, world: &World, spec: &RolloutSpec) -> Option<HostId> {
        let selector = Selector::parse(&spec.selector).ok()?;
        let active = world
            .input
            .hosts
            .values()
            .filter(|view| view.host.retired_at.is_none());
        let mut outside = active.filter(|view| {
            selector.selects(&Subject::new(&view.host, &view.versions)) && !self.has(&view.host)
        });
        outside.next().map(|view| view.host.id.clone())
    }
}

fn create(edit: &mut Edit<'_>, mut spec: RolloutSpec, actor: &str) -> Result<RolloutId, CoreError> {
    Reach::of(edit.by.as_deref())?.narrow(edit.world, &mut spec)?;
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
    Reach::of(edit.by.as_deref())?.check_rollout(edit.world, id)?;
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
