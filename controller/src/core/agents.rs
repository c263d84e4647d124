//! Agents' streams: attaching, what hosts say, and detaching.
//!
//! A host has one attachment; a newer one ends it. The link is up from the first actual state on, so that a plan never
//! takes what a host said before it went away for what it says now.

use comber_model::assignment::Desired;
use comber_model::packages::PackageSummary;
use comber_model::{Facts, HostId, HostStatus};
use tokio::sync::{mpsc, oneshot, watch};

use super::edit::Edit;
use super::task::Input;
use super::{Core, CoreError};

/// Names one attachment among all of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttachmentId(u64);

/// One host's stream, as the core sees it. Dropping it marks the link down.
#[derive(Debug)]
pub struct Attachment {
    /// What the host shall run, each value durable; send the newest whenever it changes.
    pub desired: watch::Receiver<Desired>,
    /// Which list of the host's packages was durable when it attached.
    pub packages: Option<PackageSummary>,
    id: AttachmentId,
    host: HostId,
    ending: oneshot::Receiver<Ending>,
    inputs: mpsc::Sender<Input>,
}

/// Why the core ended an attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The host connected again.
    Replaced,
    /// The host was retired.
    Retired,
    /// Its certificates were revoked.
    Revoked,
    /// Its key is in use on two machines.
    Cloned,
    /// The controller stops.
    Stopping,
}

/// The core's end of an attachment.
#[derive(Debug)]
pub(crate) struct Attached {
    id: AttachmentId,
    desired: watch::Sender<Desired>,
    ending: oneshot::Sender<Ending>,
    took: bool,
}

impl Attached {
    /// Publishes a desired state that is durable.
    pub(crate) fn publish(&self, desired: &Desired) {
        self.desired.send_if_modified(|current| {
            let differs = current != desired;
            if differs {
                current.clone_from(desired);
            }
            differs
        });
    }

    /// Whether it took the place of one that was there; nothing where `id` names another.
    pub(crate) fn took(&self, id: AttachmentId) -> Option<bool> {
        (self.id == id).then_some(self.took)
    }

    /// Tells the stream to end.
    pub(crate) fn end(self, ending: Ending) {
        // A stream that is already gone needs no telling.
        let _gone = self.ending.send(ending);
    }
}

impl Attachment {
    /// For [`Core::report_actual`].
    pub fn id(&self) -> AttachmentId {
        self.id
    }

    /// Waits until the desired state is another one, or the core ends the attachment. Cancel-safe; not to be called
    /// again once it gave an ending.
    pub async fn changed(&mut self) -> Result<(), Ending> {
        let Self {
            desired, ending, ..
        } = self;
        // Both arms may be dropped: a watch keeps its value, and an ending is the last thing that is asked for.
        tokio::select! {
            biased;
            ending = ending => Err(ending.unwrap_or(Ending::Stopping)),
            changed = desired.changed() => changed.map_err(|_| Ending::Stopping),
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let detach = Input::Detach {
            host: self.host.clone(),
            id: self.id,
        };
        if let Err(mpsc::error::TrySendError::Full(detach)) = self.inputs.try_send(detach) {
            // Dropping cannot wait, and the link must not stay up for ever.
            let inputs = self.inputs.clone();
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { inputs.send(detach).await });
            }
        }
    }
}

impl Core {
    /// Attaches a host's stream. Refused for a host that is unknown or retired.
    pub async fn attach(&self, host: &HostId) -> Result<Attachment, CoreError> {
        let (name, inputs) = (host.clone(), self.inputs.clone());
        self.edit(move |edit| attach(edit, name, inputs)).await
    }

    /// Takes in what a host said; durable on return. An attachment that was ended is not listened to.
    pub async fn report_actual(
        &self,
        host: &HostId,
        attachment: AttachmentId,
        status: HostStatus,
    ) -> Result<(), CoreError> {
        let host = host.clone();
        self.edit(move |edit| report_actual(edit, &host, attachment, status))
            .await
    }

    /// Takes in a host's facts; durable on return.
    pub async fn report_facts(&self, host: &HostId, facts: Facts) -> Result<(), CoreError> {
        let name = host.clone();
        self.edit(move |edit| {
            let view = edit.world.enrolled(&name)?;
            if view.host.facts != facts {
                let mut host = view.host.clone();
                host.facts = facts;
                edit.put_host(host, Vec::new());
            }
            Ok(())
        })
        .await
    }
}

fn attach(
    edit: &mut Edit<'_>,
    host: HostId,
    inputs: mpsc::Sender<Input>,
) -> Result<Attachment, CoreError> {
    let view = edit.world.enrolled(&host)?;
    let (sender, desired) = watch::channel(view.desired.clone());
    let packages = view.host.packages;
    let (end, ending) = oneshot::channel();
    edit.world.attachments += 1;
    let id = AttachmentId(edit.world.attachments);
    let attached = Attached {
        id,
        desired: sender,
        ending: end,
        took: edit.world.attached.contains_key(&host),
    };
    if let Some(old) = edit.world.attached.insert(host.clone(), attached) {
        old.end(Ending::Replaced);
        let now = edit.now;
        edit.world.set_link(&host, false, now);
    }
    tracing::info!(%host, "host attached");
    Ok(Attachment {
        desired,
        packages,
        id,
        host,
        ending,
        inputs,
    })
}

fn report_actual(
    edit: &mut Edit<'_>,
    host: &HostId,
    attachment: AttachmentId,
    status: HostStatus,
) -> Result<(), CoreError> {
    if edit
        .world
        .attached
        .get(host)
        .is_none_or(|attached| attached.id != attachment)
    {
        let why = format!("the stream of host {host} was ended; connect again");
        return Err(CoreError::Refused(why));
    }
    let view = edit.world.enrolled(host)?;
    let (same, up) = (view.status.as_ref() == Some(&status), view.link.is_up());
    if !up {
        let now = edit.now;
        edit.world.set_link(host, true, now);
        edit.plan = true;
    }
    if !same {
        edit.put_status(host, status);
    }
    Ok(())
}

/// Takes an attachment away, unless a newer one stands in its place.
pub(crate) fn detach(edit: &mut Edit<'_>, host: &HostId, id: AttachmentId) {
    if edit
        .world
        .attached
        .get(host)
        .is_some_and(|attached| attached.id == id)
    {
        edit.world.attached.remove(host);
        let now = edit.now;
        edit.world.set_link(host, false, now);
        edit.plan = true;
        tracing::info!(%host, "host detached");
    }
}
