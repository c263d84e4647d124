//! A channel over real TLS and HTTP/2 on loopback.

use std::convert::Infallible;

use http::{Request, Response, Version, header};
use http_body_util::Empty;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http2,
    service::service_fn,
};
use tonic::body::Body;

use super::*;
use crate::{
    shutdown::Shutdown,
    task::{TaskExecutor, spawn},
    tls::{explain, testing::Ends},
};

/// Answers one connection's requests, repeating in a header which program asked.
async fn serve(ends: Ends) {
    let stream = ends.accept().await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(ALPN_H2));
    let service = service_fn(|request: Request<Incoming>| async move {
        assert_eq!(request.version(), Version::HTTP_2);
        let program = request.headers()[header::USER_AGENT].clone();
        let response = Response::builder().header("x-program", program);
        Ok::<_, Infallible>(response.body(Empty::<Bytes>::new()).unwrap())
    });
    let executor = TaskExecutor::new("test", &Shutdown::new());
    let connection = http2::Builder::new(executor).serve_connection(TokioIo::new(stream), service);
    connection.await.unwrap();
}

async fn call(channel: &mut Channel) -> Response<Body> {
    std::future::poll_fn(|context| channel.poll_ready(context))
        .await
        .unwrap();
    channel.call(Request::new(Body::empty())).await.unwrap()
}

#[tokio::test]
async fn calls_go_over_http2_and_say_who_asks() {
    let ends = Ends::new().await;
    let (url, tls) = (ends.url("/"), Arc::clone(&ends.client));
    spawn("server", &Shutdown::new(), serve(ends));
    let settings = ChannelSettings {
        user_agent: "test/1".into(),
        ..ChannelSettings::default()
    };
    let mut channel = connect(&url, &tls, &settings).await.unwrap();
    let answer = call(&mut channel).await;
    let program = answer.headers()["x-program"].to_str().unwrap();
    assert!(program.starts_with("test/1"), "{program}");
}

#[tokio::test]
async fn a_lazy_channel_connects_for_its_first_call() {
    let ends = Ends::new().await;
    let mut channel =
        connect_lazy(&ends.url("/"), &ends.client, &ChannelSettings::default()).unwrap();
    spawn("server", &Shutdown::new(), serve(ends));
    assert_eq!(call(&mut channel).await.status(), http::StatusCode::OK);
}

#[tokio::test]
async fn a_refused_certificate_is_explained_through_all_layers() {
    let (ends, others) = (Ends::new().await, Ends::new().await);
    let url = ends.url("/");
    spawn("server", &Shutdown::new(), async move {
        // The client breaks off, which is what the test is about; this end only has to try.
        let _ = tokio::time::timeout(Duration::from_secs(5), ends.accept()).await;
    });
    let refused = connect(&url, &others.client, &ChannelSettings::default())
        .await
        .unwrap_err();
    assert!(refused.is_retryable());
    let told = explain(&refused);
    assert!(
        told.contains("not of the CA that this identity trusts"),
        "{told}"
    );
}

#[tokio::test]
async fn a_silent_port_is_given_up_after_the_timeout() {
    let ends = Ends::new().await;
    let tls = Arc::clone(&ends.client);
    // The kernel takes the connection, but nobody answers the handshake.
    let timeout = Duration::from_millis(50);
    let refused = dial(&ends.url("/"), tls, timeout).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Timeout { .. }), "{refused}");
}

#[tokio::test]
async fn addresses_that_are_not_https_are_refused() {
    let ends = Ends::new().await;
    for url in ["http://localhost:1/", "localhost:1", "/path"] {
        let url: Uri = url.parse().unwrap();
        let refused = connect_lazy(&url, &ends.client, &ChannelSettings::default()).unwrap_err();
        assert!(!refused.is_retryable());
        assert!(
            refused.to_string().contains("write https://host:port"),
            "{refused}"
        );
    }
}
