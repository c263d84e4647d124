//! Freezes as operators handle them. What follows for hosts is the planner's.

use comber_model::FreezeName;
use comber_model::calendar::{FREEZES_MAX, Freeze};
use comber_model::event::EventKind;

use super::edit::Edit;
use super::{Core, CoreError};

impl Core {
    /// Adds a freeze, or where asked puts it in the place of one of that name. Gives it as it is kept.
    pub async fn add_freeze(&self, freeze: Freeze, replace: bool) -> Result<Freeze, CoreError> {
        self.edit(move |edit| add(edit, freeze, replace)).await
    }

    /// Takes a freeze away, and gives it as it was.
    pub async fn remove_freeze(&self, name: FreezeName, actor: &str) -> Result<Freeze, CoreError> {
        let actor = actor.to_owned();
        self.edit(move |edit| remove(edit, &name, &actor)).await
    }
}

fn add(edit: &mut Edit<'_>, freeze: Freeze, replace: bool) -> Result<Freeze, CoreError> {
    freeze.check().map_err(CoreError::Invalid)?;
    let freezes = &edit.world.input.freezes;
    let is_there = freezes.contains_key(&freeze.name);
    if is_there && !replace {
        return Err(CoreError::Exists(format!(
            "there is a freeze {} already; put this one in its place with --replace",
            freeze.name
        )));
    }
    if !is_there && freezes.len() >= FREEZES_MAX {
        return Err(CoreError::Refused(format!(
            "there are {FREEZES_MAX} freezes; remove one with: comber freeze remove"
        )));
    }
    let freeze = Freeze {
        created_at: edit.now,
        ..freeze
    };
    let text = format!(
        "freeze {} was added by {}: {}",
        freeze.name, freeze.author, freeze.reason
    );
    tracing::info!(freeze = %freeze.name, actor = freeze.author, "freeze added");
    let event = edit.event_by(EventKind::FreezeAdded, &freeze.author, text);
    let event = edit.event(&event);
    edit.put_freeze(freeze.clone(), vec![event]);
    Ok(freeze)
}

fn remove(edit: &mut Edit<'_>, name: &FreezeName, actor: &str) -> Result<Freeze, CoreError> {
    let freeze = edit.world.input.freezes.get(name).cloned();
    let freeze = freeze.ok_or_else(|| CoreError::missing("freeze", name))?;
    let text = format!("freeze {name} was removed by {actor}");
    tracing::info!(freeze = %name, actor, "freeze removed");
    let event = edit.event_by(EventKind::FreezeRemoved, actor, text);
    let event = edit.event(&event);
    edit.remove_freeze(name, vec![event]);
    Ok(freeze)
}
