//! A double that answers as no good source would, over real sockets.

use std::time::Duration;

use comber_model::rollout::{PrometheusQuery, SourceKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// A listener that reads a request and gives these bytes; then keeps the connection, where `stays`.
async fn double(answer: Vec<u8>, stays: bool) -> (Source, impl Future<Output = String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let read = stream.read(&mut request).await.unwrap();
        // The reader may have gone away already: a huge answer is not read to its end.
        let _ = stream.write_all(&answer).await;
        if stays {
            std::future::pending::<()>().await;
        }
        String::from_utf8_lossy(&request[..read]).into_owned()
    };
    let source = Source {
        kind: SourceKind::Prometheus,
        url: format!("http://127.0.0.1:{port}/base/").parse().unwrap(),
        timeout: Duration::from_mins(1),
        authorization: Some("Bearer s3cret".parse().unwrap()),
        tls: None,
    };
    (source, serving)
}

fn http(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

fn query() -> PrometheusQuery {
    toml::from_str("source = \"m\"\nquery = \"sum(up)\"\npass = \"value == 1\"").unwrap()
}

async fn ask_one(answer: Vec<u8>) -> (Verdict, String, String) {
    let (source, serving) = double(answer, false).await;
    let query = query();
    let ((verdict, reason), request) = tokio::join!(prometheus::ask(&source, &query), serving);
    (verdict, reason, request)
}

const GOOD: &str = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}"#;

#[tokio::test]
async fn a_query_goes_below_the_url_with_its_token_and_comes_back() {
    let (verdict, reason, request) = ask_one(http("200 OK", GOOD)).await;
    assert_eq!(verdict, Verdict::Pass, "{reason}");
    let request = request.to_lowercase();
    assert!(
        request.starts_with("post /base/api/v1/query http/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains("authorization: bearer s3cret"),
        "{request}"
    );
    assert!(request.ends_with("query=sum%28up%29"), "{request}");
}

#[tokio::test]
async fn odd_answers_are_inconclusive_and_say_why() {
    let huge = format!("{{\"status\":\"{}\"}}", "x".repeat(1 << 20));
    for (answer, part) in [
        (http("500 Internal Server Error", "down"), "500"),
        (http("302 Found", ""), "302"),
        (http("200 OK", "<html>"), "not as Prometheus does"),
        (http("200 OK", &huge), "longer than"),
        (b"SSH-2.0-OpenSSH\r\n".to_vec(), "does not speak HTTP"),
        (Vec::new(), "does not speak HTTP"),
    ] {
        let (verdict, reason, _) = ask_one(answer).await;
        assert_eq!(verdict, Verdict::Inconclusive);
        assert!(reason.contains(part), "{part}: {reason}");
    }
}

#[tokio::test]
async fn a_source_that_never_ends_its_answer_is_left() {
    let endless = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec();
    let (mut source, serving) = double(endless, true).await;
    source.timeout = Duration::from_millis(50);
    let query = query();
    let asking = prometheus::ask(&source, &query);
    let (verdict, reason) = tokio::select! {
        said = asking => said,
        _ = serving => unreachable!("the double stays"),
    };
    assert_eq!(verdict, Verdict::Inconclusive);
    assert!(reason.contains("no answer within 50ms"), "{reason}");
}

#[tokio::test]
async fn a_source_that_is_not_there_is_inconclusive() {
    let (mut source, serving) = double(Vec::new(), false).await;
    drop(serving);
    source.authorization = None;
    let (verdict, reason) = prometheus::ask(&source, &query()).await;
    assert_eq!(verdict, Verdict::Inconclusive);
    assert!(reason.contains("cannot connect to 127.0.0.1:"), "{reason}");
}
