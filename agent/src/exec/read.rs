//! Commands that are asked something: their whole answer is wanted, and not only the end of it.
//!
//! Starts processes like [`Exec::run`], with the same promise. What they say comes through a pipe, so that one which
//! never stops talking is cut off at a bound and not by a full disk. Invariant: an answer is whole or an error.

use std::process::{ExitStatus, Stdio};

use tokio::io::AsyncReadExt;

use super::{Exec, ExecError, Group, Run, expand, start, tail};

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Printed {
    /// How.
    pub status: ExitStatus,
    /// Its standard output, whole; what is not UTF-8 is replaced.
    pub out: String,
    /// The end of its standard error.
    pub err: String,
}

impl Exec {
    /// Runs the command to its end and returns all that it wrote to its standard output, at most `most` bytes, also where
    /// its exit status is not 0.
    pub async fn read(&self, run: &Run<'_>, most: u64) -> Result<Printed, ExecError> {
        let words: Vec<String> = run
            .command
            .iter()
            .map(|word| expand(word, run.variables))
            .collect::<Result<_, _>>()?;
        let program = words.first().ok_or(ExecError::Empty)?.clone();
        let errors = self.output_file()?;
        let failed = |source| ExecError::Start {
            program: program.clone(),
            dir: run.dir.to_owned(),
            source,
        };
        let outputs = || Ok((Stdio::piped(), Stdio::from(errors.try_clone()?)));
        let mut group = Group {
            child: start(&words, run, outputs).await?,
            ended: false,
        };
        let pipe = group.child.stdout.take();
        let listen = async {
            let mut bytes = Vec::new();
            if let Some(pipe) = pipe {
                let limit = most.saturating_add(1);
                pipe.take(limit).read_to_end(&mut bytes).await?;
            }
            if bytes.len() as u64 > most {
                return Ok((bytes, None));
            }
            let status = group.child.wait().await?;
            Ok((bytes, Some(status)))
        };
        let waited = tokio::time::timeout(run.timeout, listen).await;
        let Ok(heard) = waited else {
            group.kill().await;
            return Err(ExecError::TimedOut {
                program,
                after: run.timeout,
                output: tail(&errors),
            });
        };
        let (bytes, status) = heard.map_err(failed)?;
        let Some(status) = status else {
            group.kill().await;
            return Err(ExecError::TooMuch { program, most });
        };
        group.ended = true;
        Ok(Printed {
            status,
            out: String::from_utf8_lossy(&bytes).into_owned(),
            err: tail(&errors),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::surroundings::Variables;

    async fn read(script: &str, most: u64) -> Result<Printed, ExecError> {
        let dir = tempfile::tempdir().unwrap();
        let command = ["sh", "-c", script].map(str::to_owned);
        let run = Run {
            command: &command,
            dir: dir.path(),
            variables: &Variables::new(),
            timeout: Duration::from_secs(20),
        };
        Exec::new(dir.path()).read(&run, most).await
    }

    #[tokio::test]
    async fn an_answer_is_whole_whatever_the_status() {
        let said = read("seq 20000; echo odd >&2; exit 3", 1 << 20)
            .await
            .unwrap();
        assert_eq!(said.out.lines().count(), 20_000);
        assert_eq!((said.status.code(), said.err.as_str()), (Some(3), "odd"));
    }

    #[tokio::test]
    async fn one_that_never_stops_talking_is_cut_off() {
        let error = read("exec yes", 1 << 16).await.unwrap_err();
        assert_eq!(error.to_string(), "sh wrote more than 65536 bytes");
    }
}
