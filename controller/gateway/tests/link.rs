//! What a link makes of a worker whose connections end at the wrong moment.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

mod worker;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use patchbay_gateway::{
    config::Limits,
    forward::link::{DialError, Link, LinkBody, SendError, link_uri},
};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt as _,
    time::{Instant, timeout},
};
use worker::Worker;

fn link(worker: &Worker) -> Link {
    Link::new(&worker.offer, &worker::context()).unwrap()
}

fn request() -> Request<LinkBody> {
    let mut request = Request::new(LinkBody::Control(Full::default()));
    *request.uri_mut() = link_uri("/v1/status").unwrap();
    request
}

#[tokio::test]
async fn a_worker_that_ends_a_connection_before_its_first_word_has_seen_nothing() {
    let worker = Worker::new("w-1");
    let link = link(&worker);
    let going = async {
        // for the gateway the handshake is complete, and it could write
        worker.accept().await.shutdown().await.unwrap();
    };
    let (sent, ()) = tokio::join!(link.send(request()), going);
    assert!(matches!(sent, Err(SendError::Dial(DialError::Unanswered))), "{sent:?}");
    assert!(!link.is_connected());
}

/// The worker ends every connection after one answer, while other requests are on their way to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_waits_for_ever_where_connections_end_under_it() {
    const CALLERS: usize = 8;
    const CALLS: usize = 400;
    let worker = Worker::new("w-1");
    let link = Arc::new(link(&worker));
    tokio::spawn(async move {
        loop {
            let stream = worker.accept().await;
            tokio::spawn(async move {
                let answered = AtomicUsize::new(0);
                let service = service_fn(|_| {
                    answered.fetch_add(1, Ordering::Relaxed);
                    async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())) }
                });
                let connection = http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service);
                let mut connection = std::pin::pin!(connection);
                std::future::poll_fn(|context| {
                    let ended = connection.as_mut().poll(context);
                    if answered.load(Ordering::Relaxed) > 0 { ().into() } else { ended.map(drop) }
                })
                .await;
            });
        }
    });
    let callers = (0..CALLERS).map(|_| {
        let link = Arc::clone(&link);
        tokio::spawn(async move {
            for _ in 0..CALLS {
                let sent = timeout(Duration::from_secs(30), link.send(request())).await;
                // how it ends is the worker's doing; that it ends is the link's
                drop(sent.expect("a request was forgotten"));
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn no_request_waits_for_the_dials_of_those_before_it() {
    // it listens, and never says a word
    let worker = Worker::new("w-1");
    let link = link(&worker);
    let begun = Instant::now();
    let sent = join_all((0..5).map(|_| link.send(request()))).await;
    for sent in sent {
        assert!(matches!(sent, Err(SendError::Dial(DialError::TimedOut(_)))), "{sent:?}");
    }
    assert!(begun.elapsed() < Limits::default().dial * 2, "{:?}", begun.elapsed());
}
