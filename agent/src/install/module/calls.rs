//! The calls of one change: each noted before it runs, bounded, and judged.
//!
//! Runs the module and keeps its session. Invariant: a state's call runs only after the session on the disk says that
//! it was begun, and counts as done only once the session says that it has ended.

use std::convert::Infallible;
use std::future::Future;
use std::path::{Path, PathBuf};

use comber_runtime::fsx;
use comber_runtime::telemetry::error_chain;

use super::error::ModuleError;
use super::find;
use super::payload::Member;
use super::protocol::{Query, Reboot, State};
use super::session::Session;
use super::streams::{Streams, Taken};
use super::tree::{Heading, Tree, io_at};
use crate::exec::{Call, Cut, Exec, Said};
use crate::install::{InstallError, Shelf};

/// Beside the product's releases.
const DIR: &str = "module";

/// One change in hand.
#[derive(Debug)]
pub(super) struct Calls {
    shelf: Shelf,
    dir: PathBuf,
    pub session: Session,
}

impl Calls {
    /// The change that was begun of the product, if one was.
    pub(super) fn load(shelf: &Shelf) -> Result<Option<Self>, ModuleError> {
        let dir = place(shelf)?;
        let session = Session::load(&file(&dir))?;
        Ok(session.map(|session| Self {
            shelf: shelf.clone(),
            dir,
            session,
        }))
    }

    /// A change that begins here, with its tree.
    pub(super) async fn begin(
        shelf: &Shelf,
        session: Session,
        heading: Heading,
    ) -> Result<Self, InstallError> {
        let dir = place(shelf)?;
        fsx::create_dir_durable(&dir, 0o700).map_err(ModuleError::from)?;
        session.save(&file(&dir))?;
        let tree = tree(&dir);
        let made = move |_: &_| Ok(tree.make(&heading)?);
        shelf.site.jobs.run(made).await?;
        Ok(Self {
            shelf: shelf.clone(),
            dir,
            session,
        })
    }

    /// Where the change's calls run.
    pub(super) fn tree(&self) -> Tree {
        tree(&self.dir)
    }

    /// One state: noted, called, noted.
    pub(super) async fn state(&mut self, state: State) -> Result<(), ModuleError> {
        self.begins(state)?;
        self.call(state.as_str()).await?;
        self.ends()
    }

    /// Notes that a state begins without a call of its own.
    pub(super) fn begins(&mut self, state: State) -> Result<(), ModuleError> {
        if !self.session.ended {
            // No two calls of one change go on at the same time, whatever ended the agent.
            self.end_what_was_left();
        }
        tracing::info!(release = self.session.release, %state, "the module's next state");
        self.session.begin(state, &file(&self.dir))
    }

    /// Notes that it has ended well, and whatever else was learned.
    pub(super) fn ends(&mut self) -> Result<(), ModuleError> {
        self.session.end(&file(&self.dir))
    }

    /// Notes why the host is lost.
    pub(super) fn lose(&mut self, why: &ModuleError) -> Result<(), ModuleError> {
        self.session.lost = Some(error_chain(why));
        self.session.save(&file(&self.dir))
    }

    /// Asks the module for one word.
    pub(super) async fn ask(&self, query: Query) -> Result<Reboot, ModuleError> {
        let said = self.call(query.as_str()).await?;
        let module = || self.session.module.clone();
        if said.total > said.bytes.len() as u64 {
            return Err(ModuleError::Flood {
                module: module(),
                query: query.as_str(),
                bytes: said.total,
            });
        }
        query.parse(&said.bytes).ok_or_else(|| ModuleError::Answer {
            module: module(),
            query: query.as_str(),
            answer: beginning(&said.bytes),
            allowed: query.allowed(),
        })
    }

    /// Hands the payload over: to the module, or into files.
    pub(super) async fn download(&mut self, payload: Vec<Member>) -> Result<(), InstallError> {
        self.begins(State::Download)?;
        let tree = self.tree();
        let with_sizes = self.ask(Query::ProvidePayloadFileSizes).await? == Reboot::Yes;
        let word = if with_sizes {
            "DownloadWithFileSizes"
        } else {
            "Download"
        };
        let streams = Streams::new(&tree, &payload, with_sizes)?;
        self.call_beside(word, streams.serve()).await?;
        let taken = streams.taken();
        tree.remove_streams()?;
        match taken {
            Taken::All => {}
            Taken::Part => {
                let name = "the end of stream-next".to_owned();
                return Err(ModuleError::NotRead { name }.into());
            }
            Taken::Nothing => {
                let stored = move |stop: &_| Ok(tree.store(&payload, stop)?);
                self.shelf.site.jobs.run(stored).await?;
            }
        }
        Ok(self.ends()?)
    }

    /// The last call, which cannot fail the change any more, and the end of the tree.
    pub(super) async fn clean_up(&mut self) -> Result<(), InstallError> {
        self.without_consequence(State::Cleanup).await;
        self.close().await
    }

    /// A call whose failure changes nothing: it is logged.
    pub(super) async fn without_consequence(&mut self, state: State) {
        if let Err(error) = self.state(state).await {
            let (release, error) = (&self.session.release, error_chain(&error));
            tracing::warn!(release, %state, error, "the module failed, going on");
        }
    }

    /// Removes the tree, and what is remembered unless the host is lost.
    pub(super) async fn close(&mut self) -> Result<(), InstallError> {
        let tree = self.tree();
        let removed = move |_: &_| Ok(tree.remove()?);
        self.shelf.site.jobs.run(removed).await?;
        self.session.state = State::Done;
        if self.session.lost.is_some() {
            return Ok(self.ends()?);
        }
        fsx::remove_durable(&file(&self.dir)).map_err(ModuleError::from)?;
        // Holds nothing any more, and is made again when it is needed.
        let _ = std::fs::remove_dir(&self.dir);
        Ok(())
    }

    /// Nothing that a call of this change started goes on: neither what an earlier process of the agent called and did
    /// not see end, nor a daemon of what is being undone.
    pub(super) fn end_what_was_left(&self) {
        Exec::kill_left_behind(&self.session.id);
    }

    async fn call(&self, word: &'static str) -> Result<Said, ModuleError> {
        find::check(&self.session.program)?;
        let nothing = std::future::pending::<Infallible>();
        match self.called(word, nothing).await {
            Ok(said) => Ok(said),
            Err(Cut::Exec(source)) => Err(self.failed(word, source)),
            Err(Cut::Beside(never)) => match never {},
        }
    }

    async fn call_beside(
        &self,
        word: &'static str,
        beside: impl Future<Output = ModuleError>,
    ) -> Result<Said, ModuleError> {
        find::check(&self.session.program)?;
        match self.called(word, beside).await {
            Ok(said) => Ok(said),
            Err(Cut::Exec(source)) => Err(self.failed(word, source)),
            Err(Cut::Beside(error)) => Err(error),
        }
    }

    async fn called<E>(
        &self,
        word: &'static str,
        beside: impl Future<Output = E>,
    ) -> Result<Said, Cut<E>> {
        let tree = self.tree();
        let call = Call {
            program: &self.session.program,
            arguments: &[word.as_ref(), tree.dir().as_os_str()],
            dir: tree.dir(),
            variables: &self.shelf.site.variables,
            timeout: self.session.timeout,
            name: word,
            mark: &self.session.id,
        };
        self.shelf.site.exec.call_beside(&call, beside).await
    }

    fn failed(&self, call: &'static str, source: crate::exec::ExecError) -> ModuleError {
        ModuleError::Call {
            module: self.session.module.clone(),
            call,
            source,
        }
    }
}

/// Modules are told an absolute path, whatever the agent's settings say.
fn place(shelf: &Shelf) -> Result<PathBuf, ModuleError> {
    let dir = shelf.layout.dir().join(DIR);
    std::path::absolute(&dir).map_err(io_at("find", &dir))
}

fn file(dir: &Path) -> PathBuf {
    dir.join("session.json")
}

fn tree(dir: &Path) -> Tree {
    Tree::at(dir.join("tree"))
}

/// Enough of an answer to recognise it.
fn beginning(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned()
}
