//! Questions over the real socket: answered, hostile, too many.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as Stream;
use std::time::Duration;

use comber_runtime::clock::Clock;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::driver::Leave;
use crate::link::{LinkState, LinkView, Pokes, Reach};

const SOON: Duration = Duration::from_secs(30);

struct Agent {
    dir: TempDir,
    view: watch::Sender<LinkView>,
    state: watch::Sender<LinkState>,
    pokes: Pokes,
    leave: mpsc::Receiver<Leave>,
    local: Option<Local>,
}

impl Agent {
    fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    fn at(dir: TempDir) -> Self {
        let view = watch::Sender::new(LinkView::default());
        let state = watch::Sender::new(LinkState::default());
        let reach = Reach {
            pokes: Pokes::default(),
            view: view.subscribe(),
        };
        let pokes = reach.pokes.clone();
        let (leaves, leave) = mpsc::channel(1);
        let clock = Clock::system();
        let local = Local::open(dir.path(), reach, state.subscribe(), leaves, clock).unwrap();
        Self {
            dir,
            view,
            state,
            pokes,
            leave,
            local: Some(local),
        }
    }

    /// Serves while the question is asked on a thread of its own.
    async fn during<T: Send + 'static>(
        &mut self,
        ask: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> T {
        let dir = self.dir.path().to_owned();
        let asking = tokio::task::spawn_blocking(move || ask(&dir));
        let serving = self.local.take().unwrap().run();
        tokio::select! {
            asked = asking => asked.unwrap(),
            never = serving => match never {},
        }
    }
}

#[tokio::test]
async fn the_link_is_told_as_it_is() {
    let mut agent = Agent::new();
    agent.view.send_modify(|view| view.opened = 3);
    agent.state.send_modify(|state| {
        state.last_error = Some("connection refused".to_owned());
        state.next_try = Some(Duration::ZERO);
    });
    let answer = agent.during(|dir| ask(dir, Ask::Link, SOON)).await.unwrap();
    let expected = LinkReport {
        connected: false,
        since: None,
        last_error: Some("connection refused".to_owned()),
        next_try_ms: Some(0),
        opened: 3,
    };
    assert_eq!(answer, Answer::Link(expected));
}

#[tokio::test]
async fn only_its_owner_may_enter_and_nobody_listens_when_it_is_gone() {
    let mut agent = Agent::new();
    let mode = fs::metadata(place(agent.dir.path()))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    agent.during(|dir| ask(dir, Ask::Link, SOON)).await.unwrap();
    let gone = ask(agent.dir.path(), Ask::Link, SOON);
    assert!(matches!(gone, Err(AskError::NotRunning)), "{gone:?}");
    assert!(!place(agent.dir.path()).exists());
}

#[tokio::test]
async fn a_socket_that_a_killed_agent_left_is_replaced() {
    let agent = Agent::new();
    std::mem::forget(agent.local);
    let mut again = Agent::at(agent.dir);
    again.during(|dir| ask(dir, Ask::Link, SOON)).await.unwrap();
}

#[tokio::test]
async fn a_state_directory_with_a_long_name_has_one_too() {
    let long = tempfile::Builder::new()
        .prefix(&"long".repeat(40))
        .tempdir();
    let mut agent = Agent::at(long.unwrap());
    assert!(place(agent.dir.path()).as_os_str().len() > ADDRESS_MAX);
    agent.during(|dir| ask(dir, Ask::Link, SOON)).await.unwrap();
}

#[tokio::test]
async fn hostile_questions_are_refused_and_the_next_one_is_answered() {
    for (question, said) in [
        (&b"{}\n"[..], "missing field"),
        (b"not json\n", "expected"),
        (b"{\"v\":1,\"ask\":\"link\"", "ends in the middle"),
        (b"{\"v\":2,\"ask\":\"link\"}\n", "speaks version 2"),
        (b"{\"v\":1,\"ask\":\"format\"}\n", "unknown variant"),
        (&[b'x'; 5000], "more than 1024 bytes"),
    ] {
        let mut agent = Agent::new();
        let (told, next) = agent
            .during(move |dir| {
                let mut stream = Stream::connect(place(dir)).unwrap();
                let _ = stream.write_all(question);
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                let mut told = String::new();
                let _ = stream.read_to_string(&mut told);
                (told, ask(dir, Ask::Link, SOON))
            })
            .await;
        // A question that is too long may be cut off before its answer is read.
        let cut = question.len() > QUESTION_MAX && told.is_empty();
        assert!(cut || told.contains(said), "{told}");
        assert!(next.is_ok(), "{next:?}");
    }
}

#[tokio::test]
async fn those_who_say_nothing_do_not_keep_the_others_out_for_long() {
    let mut agent = Agent::new();
    let answer = agent
        .during(|dir| {
            let silent: Vec<_> = (0..20)
                .map(|_| Stream::connect(place(dir)).unwrap())
                .collect();
            let answer = ask(dir, Ask::Link, SOON);
            drop(silent);
            answer
        })
        .await;
    assert!(answer.is_ok(), "{answer:?}");
}

#[tokio::test]
async fn a_check_hurries_the_link_and_waits_for_what_comes_of_it() {
    let mut agent = Agent::new();
    let mut pokes = agent.pokes.subscribe();
    let (view, state) = (agent.view.clone(), agent.state.clone());
    let link = async move {
        pokes.changed().await.unwrap();
        view.send_modify(|view| (view.connected, view.opened, view.received) = (true, 1, 1));
        pokes.changed().await.unwrap();
        drop(state);
        std::future::pending::<()>().await;
    };
    let asking = agent.during(|dir| ask(dir, Ask::CheckNow, SOON));
    let answer = tokio::select! {
        answer = asking => answer.unwrap(),
        () = link => unreachable!("it never ends"),
    };
    assert!(matches!(answer, Answer::Link(link) if link.connected && link.opened == 1));
}

#[tokio::test]
async fn a_check_that_fails_says_how() {
    let mut agent = Agent::new();
    let mut pokes = agent.pokes.subscribe();
    let state = agent.state.clone();
    let link = async move {
        pokes.changed().await.unwrap();
        state.send_modify(|state| {
            state.last_error = Some("no route to host".to_owned());
            state.ended = 1;
        });
        std::future::pending::<()>().await;
    };
    let asking = agent.during(|dir| ask(dir, Ask::CheckNow, SOON));
    let answer = tokio::select! {
        answer = asking => answer.unwrap(),
        () = link => unreachable!("it never ends"),
    };
    let Answer::Link(link) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(link.last_error.as_deref(), Some("no route to host"));
}

#[tokio::test]
async fn a_wish_to_leave_is_the_drivers_to_decide() {
    for decided in [Ok(()), Err("an attempt is activating".to_owned())] {
        let mut agent = Agent::new();
        let (_, mut leaves) = mpsc::channel(1);
        std::mem::swap(&mut agent.leave, &mut leaves);
        let said = decided.clone();
        let driver = async move {
            let Leave { force, answer } = leaves.recv().await.unwrap();
            assert!(force);
            answer.send(said).unwrap();
            std::future::pending::<()>().await;
        };
        let asking = agent.during(|dir| ask(dir, Ask::Unenroll { force: true }, SOON));
        let answer = tokio::select! {
            answer = asking => answer.unwrap(),
            () = driver => unreachable!("it never ends"),
        };
        let expected = match decided {
            Ok(()) => Answer::Leaving,
            Err(why) => Answer::Refused { why },
        };
        assert_eq!(answer, expected);
    }
}

#[test]
fn raw_bytes_of_a_question_are_as_documented() {
    let bytes = line(Ask::Unenroll { force: true }).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(text, "{\"v\":1,\"ask\":\"unenroll\",\"force\":true}\n");
}
