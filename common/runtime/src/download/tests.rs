//! Downloads from a server whose every byte the test writes.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{shutdown::Shutdown, task::spawn, tls::testing::Ends};

/// What the server does after the answer.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Close,
    Stall,
}

/// Asks for the bytes from `offset` on; the server takes the request, writes `answer`, then closes or stalls.
///
/// Gives the head that the server saw, and what the client read.
async fn get(offset: u64, answer: Vec<u8>, then: Then) -> (String, Result<Read, GetError>) {
    let ends = Ends::new().await;
    let (url, tls) = (ends.url("/artifact?x=1"), Arc::clone(&ends.client));
    let serve = spawn("server", &Shutdown::new(), async move {
        let mut stream = ends.accept().await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(&answer).await.unwrap();
        stream.flush().await.unwrap();
        if then == Then::Stall {
            // Until the client gives up and closes.
            let _ = stream.read_u8().await;
        } else {
            stream.shutdown().await.unwrap();
        }
        String::from_utf8(head).unwrap()
    });
    let idle_timeout = match then {
        Then::Close => Duration::from_mins(1),
        Then::Stall => Duration::from_millis(50),
    };
    let connect_timeout = Duration::from_mins(1);
    let request = GetRequest {
        url,
        offset,
        connect_timeout,
        idle_timeout,
    };
    let read = read(&request, &tls).await;
    (serve.await.unwrap(), read)
}

#[derive(Debug)]
struct Read {
    offset: u64,
    length: Option<u64>,
    bytes: Vec<u8>,
}

async fn read(request: &GetRequest, tls: &ClientConfig) -> Result<Read, GetError> {
    let mut download = https_get(request, tls).await?;
    let (offset, length) = (download.offset(), download.length());
    let mut bytes = Vec::new();
    while let Some(chunk) = download.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(Read {
        offset,
        length,
        bytes,
    })
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let length = format!("content-length: {}\r\n\r\n", body.len());
    [
        b"HTTP/1.1 ",
        head.as_bytes(),
        b"\r\n",
        length.as_bytes(),
        body,
    ]
    .concat()
}

#[tokio::test]
async fn a_whole_artifact_arrives() {
    let body: Vec<u8> = (0..3_000_000_u32)
        .map(|n| n.to_le_bytes()[n as usize % 3])
        .collect();
    let (head, read) = get(0, answer("200 OK", &body), Then::Close).await;
    let read = read.unwrap();
    assert_eq!((read.offset, read.length), (0, Some(3_000_000)));
    assert!(read.bytes == body, "{} bytes differ", read.bytes.len());
    assert!(
        head.starts_with("GET /artifact?x=1 HTTP/1.1\r\nhost: localhost:"),
        "{head}"
    );
    assert!(head.contains("accept-encoding: identity\r\n"), "{head}");
    assert!(!head.contains("range:"), "{head}");
}

#[tokio::test]
async fn chunks_without_a_length_arrive() {
    let body =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let (_, read) = get(0, body.to_vec(), Then::Close).await;
    let read = read.unwrap();
    assert_eq!((read.length, read.bytes.as_slice()), (None, &b"abcde"[..]));
}

#[tokio::test]
async fn a_download_resumes_where_it_stopped() {
    let range = "206 Partial Content\r\ncontent-range: bytes 5-7/8";
    let (head, read) = get(5, answer(range, b"fgh"), Then::Close).await;
    let read = read.unwrap();
    assert!(head.contains("range: bytes=5-\r\n"), "{head}");
    assert_eq!((read.offset, read.bytes.as_slice()), (5, &b"fgh"[..]));
}

#[tokio::test]
async fn a_server_without_ranges_begins_anew() {
    let (_, read) = get(5, answer("200 OK", b"abcdefgh"), Then::Close).await;
    let read = read.unwrap();
    assert_eq!((read.offset, read.bytes.as_slice()), (0, &b"abcdefgh"[..]));
}

#[tokio::test]
async fn another_range_than_asked_for_is_refused() {
    for range in [
        "content-range: bytes 4-7/8",
        "content-range: bytes */8",
        "x: y",
    ] {
        let head = format!("206 Partial Content\r\n{range}");
        let (_, read) = get(5, answer(&head, b"efgh"), Then::Close).await;
        assert!(
            matches!(read, Err(GetError::Range { wanted: 5, .. })),
            "{range}: {read:?}"
        );
    }
}

#[tokio::test]
async fn only_passing_failures_are_worth_another_try() {
    let cases = [
        ("404 Not Found", false),
        ("403 Forbidden", false),
        ("503 Busy", true),
        ("429 Slow", true),
        ("302 Found", false),
    ];
    for (status, retryable) in cases {
        let (_, read) = get(0, answer(status, b"no"), Then::Close).await;
        let error = read.unwrap_err();
        assert!(matches!(error, GetError::Status { .. }), "{error}");
        assert_eq!(error.is_retryable(), retryable, "{status}");
    }
}

#[tokio::test]
async fn a_body_that_is_cut_is_an_error_and_not_an_end() {
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_vec();
    let (_, read) = get(0, cut, Then::Close).await;
    let error = read.unwrap_err();
    assert!(
        matches!(
            error,
            GetError::Broken {
                step: "reading the body",
                ..
            }
        ),
        "{error}"
    );
    assert!(error.is_retryable());
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_an_error() {
    let (_, read) = get(0, b"\x16\x03\x01 nonsense\r\n\r\n".to_vec(), Then::Close).await;
    let error = read.unwrap_err();
    assert!(
        matches!(
            error,
            GetError::Broken {
                step: "waiting for the answer",
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn silence_before_and_within_the_body_ends_the_download() {
    let within = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_vec();
    for answer in [Vec::new(), within] {
        let (_, read) = get(0, answer, Then::Stall).await;
        assert!(matches!(read, Err(GetError::Idle(_))), "{read:?}");
    }
}
