//! One try of one check.
//!
//! Connects to what the check names and nothing else. Invariant: at most 64 KiB of an answer are read.

use std::time::Duration;

use comber_model::release::{Exec as ExecProbe, Http, Probe, Tcp, Unit};
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Health;
use crate::exec::{ExecError, Run};
use crate::surroundings::{ExpandError, Variables, expand};

/// How much of a body is searched.
const BODY_MAX: usize = 64 << 10;

/// Why a try did not pass.
pub(super) enum ProbeError {
    /// It may pass the next time.
    Failed(String),
    /// It never will.
    Hopeless(ExpandError),
}

impl From<ExpandError> for ProbeError {
    fn from(error: ExpandError) -> Self {
        Self::Hopeless(error)
    }
}

impl Health {
    pub(super) async fn probe(&self, probe: &Probe, timeout: Duration) -> Result<(), ProbeError> {
        match probe {
            Probe::Exec(ExecProbe { command }) => self.command(command, timeout).await,
            Probe::Tcp(Tcp { address }) => {
                let address = expand(address, &self.variables)?;
                connect(&address).await.map(drop)
            }
            Probe::Http(wanted) => {
                let url = expand(&wanted.url, &self.variables)?;
                let contains = wanted.contains.as_deref();
                let contains = contains
                    .map(|text| expand(text, &self.variables))
                    .transpose()?;
                get(&url, wanted, contains.as_deref()).await
            }
            Probe::Unit(Unit { name }) => self.unit(&expand(name, &self.variables)?, timeout).await,
        }
    }

    async fn command(&self, command: &[String], timeout: Duration) -> Result<(), ProbeError> {
        let run = Run {
            command,
            dir: &self.dir,
            variables: &self.variables,
            timeout,
        };
        match self.exec.run(&run).await {
            Ok(_) => Ok(()),
            Err(ExecError::Expand(error)) => Err(error.into()),
            Err(error) => Err(failed(&error)),
        }
    }

    async fn unit(&self, name: &str, timeout: Duration) -> Result<(), ProbeError> {
        let command = ["systemctl", "is-active", "--", name].map(str::to_owned);
        let run = Run {
            command: &command,
            // A check before the first installation has no release to stand in.
            dir: "/".as_ref(),
            variables: &Variables::new(),
            timeout,
        };
        match self.exec.run(&run).await {
            Ok(_) => Ok(()),
            // It says `failed`, `inactive` or `activating`.
            Err(ExecError::Failed { output, .. }) if !output.is_empty() => {
                let found = output.lines().next().unwrap_or_default();
                Err(ProbeError::Failed(format!(
                    "unit {name} is {found}, expected active"
                )))
            }
            Err(error) => Err(failed(&error)),
        }
    }
}

async fn connect(address: &str) -> Result<TcpStream, ProbeError> {
    TcpStream::connect(address)
        .await
        .map_err(|error| ProbeError::Failed(format!("cannot connect to {address}: {error}")))
}

async fn get(url: &str, wanted: &Http, contains: Option<&str>) -> Result<(), ProbeError> {
    let unusable = |problem: &dyn std::fmt::Display| {
        ProbeError::Failed(format!("{url:?} is not a usable address: {problem}"))
    };
    let uri: Uri = url.parse().map_err(|error| unusable(&error))?;
    let authority = uri
        .authority()
        .ok_or_else(|| unusable(&"it names no host"))?;
    let address = match authority.port() {
        Some(_) => authority.as_str().to_owned(),
        None => format!("{}:80", authority.host()),
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(header::HOST, authority.as_str())
        .header(header::USER_AGENT, "comber-agent")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| unusable(&error))?;
    let stream = connect(&address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    let asking = async {
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| failed(&error))?;
        judge(answer, wanted, contains).await
    };
    let mut asking = std::pin::pin!(asking);
    // The connection may end before its answer is judged; what is wrong with it shows in the answer.
    tokio::select! {
        biased;
        judged = &mut asking => judged,
        _ = connection => asking.await,
    }
}

async fn judge(
    answer: http::Response<Incoming>,
    wanted: &Http,
    contains: Option<&str>,
) -> Result<(), ProbeError> {
    let status = answer.status().as_u16();
    if status != wanted.status {
        let found = format!("status {status}, expected {}", wanted.status);
        return Err(ProbeError::Failed(found));
    }
    let Some(text) = contains else {
        return Ok(());
    };
    let mut body = answer.into_body();
    let mut found = Vec::new();
    while found.len() < BODY_MAX {
        let Some(frame) = body.frame().await else {
            break;
        };
        if let Ok(data) = frame.map_err(|error| failed(&error))?.into_data() {
            let room = BODY_MAX - found.len();
            found.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    if String::from_utf8_lossy(&found).contains(text) {
        return Ok(());
    }
    let found = format!(
        "the body ({} bytes read) does not contain {text:?}",
        found.len()
    );
    Err(ProbeError::Failed(found))
}

fn failed(error: &(dyn std::error::Error + 'static)) -> ProbeError {
    ProbeError::Failed(comber_runtime::telemetry::error_chain(error))
}
