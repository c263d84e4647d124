//! `comber release publish`: lists a bundle in the repository, signs that, uploads the bytes and has the controller import it.
//!
//! Sends one file in pieces. Invariant: an upload that broke off goes on where the controller says it
//! stands, in this run or in a later one; the controller alone decides whether the bytes are a release.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use comber_bundle::{Contents, Limits};
use comber_model::Artifact;
use comber_proto::release::v1::{
    PublishReleaseRequest, Release, StatUploadRequest, UploadRequest, UploadStart,
};
use comber_runtime::backoff::Backoff;
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

use super::list::{SignedArgs, list};
use super::{build, promised};
use crate::client::Client;
use crate::cmd::repo::workshop::{KeyArgs, RepoArg, Workshop};
use crate::cmd::repo::{Import, import};
use crate::error::{CliError, Outcome, failed};
use crate::render::{self, json};
use crate::session::Session;
use crate::status::{is_connection, transport_cause};
use crate::watch::Meter;

/// The most that the protocol allows in one message.
const PIECE: usize = 256 << 10;
/// Times that a broken upload is resumed without any progress before it is given up: longer than the controller needs to
/// notice that the connection of the try before is dead, about 40 seconds.
const TRIES: u32 = 14;

/// Lists a bundle in the repository, signs and publishes the list, uploads the bytes and imports the list: everything from a
/// directory to a release that can be rolled out. Can be broken off and repeated: it goes on where it was.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber release publish webapp-2.4.1.comber
  comber release publish ./webapp")]
pub(crate) struct PublishArgs {
    /// A bundle, or a directory with release.toml and files/
    path: PathBuf,
    #[command(flatten)]
    signed: SignedArgs,
    #[command(flatten)]
    keys: KeyArgs,
    #[command(flatten)]
    repo: RepoArg,
}

/// Builds where needed, lists, signs, imports, uploads, publishes.
pub(crate) async fn run(args: &PublishArgs, session: &Session) -> Outcome<()> {
    // The directory must live until the upload is done.
    let (_keep, file) = file_of(&args.path, session)?;
    let contents = identify(&file)?;
    let artifact = contents.artifact;
    let workshop = Workshop::open(&args.repo, session)?;
    let client = session.client().await?;
    list(&workshop, &file, &contents, &args.signed)?;
    let signed = workshop.publish(&args.keys, session)?;
    // Without development keys, whom a controller believes is said with `comber repo import --pin`.
    let files = Import::of(&workshop.dir)?;
    import(&client, files, workshop.settings.development).await?;
    upload(&client, &file, artifact, session).await?;
    let (release, already) = publish_bundle(&client, artifact).await?;
    session.screen.show(
        || json::Published::new(&release, already),
        |view| render::published(view, &release, already, &signed),
    )
}

/// Makes uploaded bytes a release; true where they were one before.
pub(crate) async fn publish_bundle(
    client: &Client,
    artifact: Artifact,
) -> Outcome<(Release, bool)> {
    let doing = "publish the release";
    let request = PublishReleaseRequest {
        digest: artifact.digest.0.to_vec(),
    };
    let answer = client.answered(doing, client.releases().publish_release(request).await)?;
    Ok((promised(doing, answer.release)?, answer.already))
}

pub(super) fn file_of(
    path: &Path,
    session: &Session,
) -> Outcome<(Option<tempfile::TempDir>, PathBuf)> {
    if !path.is_dir() {
        return Ok((None, path.to_owned()));
    }
    let dir =
        tempfile::tempdir().map_err(|error| failed("cannot make a temporary directory")(&error))?;
    let file = dir.path().join("bundle");
    build::bundle(path, &file, &session.screen)?;
    Ok((Some(dir), file))
}

/// Who the bytes are; refuses a file that is no sound bundle before a byte is sent.
pub(super) fn identify(path: &Path) -> Outcome<Contents> {
    let cannot = || CliError::configuration(format!("cannot publish {}", path.display()));
    let file = File::open(path).map_err(|error| cannot().because(error.to_string()))?;
    comber_bundle::inspect(file, Limits { length: u64::MAX }).map_err(|error| {
        cannot()
            .caused_by(&error)
            .hint("build one with: comber release build DIR")
    })
}

pub(crate) async fn upload(
    client: &Client,
    path: &Path,
    artifact: Artifact,
    session: &Session,
) -> Outcome<()> {
    let doing = "upload the bundle";
    let meter = Meter::new(&session.screen, "uploading");
    let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
    let mut furthest = 0;
    loop {
        let status = match advance(client, path, artifact, &meter).await? {
            Ok(Stands::Whole) => {
                meter.clear();
                return Ok(());
            }
            Ok(Stands::At(received)) if received > furthest => {
                furthest = received;
                backoff.reset();
                continue;
            }
            Ok(Stands::At(_)) => Status::unavailable("the upload does not get on"),
            Err(status) => status,
        };
        // While the try before still counts as under way, another one is told to wait.
        let may_pass = is_connection(&status) || status.code() == Code::Aborted;
        if !may_pass || backoff.tries() >= TRIES {
            meter.clear();
            return Err(client
                .refused(doing, &status)
                .hint("publish again: it goes on where it was"));
        }
        if backoff.tries() == 0 {
            meter.note(
                &session.screen,
                &format!("upload broke off ({}); going on", transport_cause(&status)),
            );
        }
        tokio::time::sleep(backoff.ceiling()).await;
        backoff.next(u64::MAX);
    }
}

/// How far an upload is.
enum Stands {
    /// All bytes are there.
    Whole,
    /// So many are.
    At(u64),
}

/// Asks where the upload stands and sends from there on.
async fn advance(
    client: &Client,
    path: &Path,
    artifact: Artifact,
    meter: &Meter,
) -> Outcome<Result<Stands, Status>> {
    let digest = artifact.digest.0.to_vec();
    let carried_length = artifact.carried_length;
    let request = StatUploadRequest {
        digest: digest.clone(),
        carried_length,
    };
    let stat = match client.releases().stat_upload(request).await {
        Ok(response) => response.into_inner(),
        Err(status) => return Ok(Err(status)),
    };
    if stat.complete || stat.received >= carried_length {
        return Ok(Ok(Stands::Whole));
    }
    let place = UploadStart {
        digest,
        carried_length,
        offset: stat.received,
    };
    let pieces = Pieces::open(path, place)?;
    let meter = meter.clone();
    let stream = tokio_stream::iter(pieces).map(move |(request, sent)| {
        meter.set(sent, carried_length);
        request
    });
    match client.releases().upload(stream).await {
        Ok(response) if response.get_ref().received >= carried_length => Ok(Ok(Stands::Whole)),
        Ok(response) => Ok(Ok(Stands::At(response.get_ref().received))),
        Err(status) => Ok(Err(status)),
    }
}

/// The file from an offset on, in messages.
struct Pieces {
    file: File,
    start: Option<UploadStart>,
    sent: u64,
}

impl Pieces {
    fn open(path: &Path, start: UploadStart) -> Outcome<Self> {
        let open = || {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(start.offset))?;
            Ok(file)
        };
        let file = open().map_err(|error: std::io::Error| {
            failed(format!("cannot read {}", path.display()))(&error)
        })?;
        Ok(Self {
            file,
            sent: start.offset,
            start: Some(start),
        })
    }
}

impl Iterator for Pieces {
    type Item = (UploadRequest, u64);

    /// A file that cannot be read any more ends the stream early; the controller then says how much it has, and the next
    /// try meets the error when it opens the file.
    fn next(&mut self) -> Option<Self::Item> {
        let mut data = Vec::with_capacity(PIECE);
        let limit = u64::try_from(PIECE).unwrap_or(u64::MAX);
        let read = Read::take(&mut self.file, limit)
            .read_to_end(&mut data)
            .ok()?;
        let start = self.start.take();
        if read == 0 && start.is_none() {
            return None;
        }
        self.sent += u64::try_from(read).unwrap_or(0);
        Some((UploadRequest { start, data }, self.sent))
    }
}
