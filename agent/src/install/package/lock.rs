//! Waits for somebody else who holds the package manager's lock, and can name him.
//!
//! Only looks: the lock is taken by the manager itself, which would wait a little longer for one who came in between.
//! Invariant: a wait ends at its deadline with the holder's name.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Flock, FlockType, Pid, fcntl_getlk};

use super::error::PackageError;

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Returns once nobody holds any of the locks.
pub(super) async fn wait(locks: &[PathBuf], at_most: Duration) -> Result<(), PackageError> {
    let locked = tokio::time::timeout(at_most, until_free(locks)).await;
    if locked.is_ok() {
        return Ok(());
    }
    match holder(locks) {
        Some((lock, holder)) => Err(PackageError::Locked {
            lock,
            holder,
            waited: at_most,
        }),
        None => Ok(()),
    }
}

async fn until_free(locks: &[PathBuf]) {
    let mut told = false;
    while let Some((lock, holder)) = holder(locks) {
        if !told {
            tracing::info!(lock = %lock.display(), holder, "waits for the package manager's lock");
            told = true;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The first of the locks that is held, and by whom. One that is not there or cannot be asked is held by nobody.
fn holder(locks: &[PathBuf]) -> Option<(PathBuf, String)> {
    locks.iter().find_map(|lock| {
        let holder = holder_of(lock)?;
        Some((lock.clone(), holder))
    })
}

fn holder_of(lock: &Path) -> Option<String> {
    let file = File::open(lock).ok()?;
    let whole = Flock::from(FlockType::WriteLock);
    let held = fcntl_getlk(&file, &whole).ok()??;
    Some(held.pid.map_or_else(|| "another process".to_owned(), told))
}

fn told(pid: Pid) -> String {
    let number = pid.as_raw_nonzero().get();
    // A lock of an open file, or of another container, belongs to no process here.
    if number < 1 {
        return "another process".to_owned();
    }
    let name = fs::read_to_string(format!("/proc/{number}/comm")).unwrap_or_default();
    format!("process {number} ({})", name.trim())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process that holds the lock until it is killed.
    fn holding(lock: &Path) -> Child {
        let program = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); \
                       print('held', flush=True); time.sleep(600)";
        let mut child = Command::new("python3")
            .args(["-c", program])
            .arg(lock)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 4];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        child
    }

    #[tokio::test]
    async fn a_lock_is_waited_for_and_its_holder_named() {
        let dir = tempfile::tempdir().unwrap();
        let locks = [dir.path().join("absent"), dir.path().join("lock")];
        fs::write(&locks[1], "").unwrap();
        wait(&locks, Duration::ZERO).await.unwrap();

        let mut child = holding(&locks[1]);
        let error = wait(&locks, Duration::from_millis(10)).await.unwrap_err();
        let expected = format!("is held by process {} (python3)", child.id());
        assert!(error.to_string().contains(&expected), "{error}");

        let free = wait(&locks, Duration::from_mins(1));
        let (waited, ()) = tokio::join!(free, async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            child.kill().unwrap();
            child.wait().unwrap();
        });
        waited.unwrap();
    }
}
