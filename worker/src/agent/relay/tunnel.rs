//! CONNECT: dials first, so that a refusal can still be an answer, and then passes bytes both ways.
//! What runs in a tunnel is between the MCP server and the host; no bearer is ever put into it.
//! This module must not know which hosts may be dialled.

use super::{Relay, refusal::Failure, request::Target};
use crate::agent::answer::{Body, bare};
use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, upgrade};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

impl Relay {
    /// Opens a tunnel; `place` is held for as long as it is open.
    pub(super) async fn tunnel(
        &self,
        target: &Target,
        request: Request<Incoming>,
        place: impl Send + 'static,
    ) -> Response<Body> {
        let mut host = match self.dialler.dial(target).await {
            Ok(host) => host,
            Err(error) => return Failure::new(error.reason(), &error).answer(&target.host),
        };
        tokio::spawn(async move {
            match upgrade::on(request).await {
                Ok(server) => {
                    // either side may leave at any time: no error of this is news
                    let _ = copy_bidirectional(&mut TokioIo::new(server), &mut host).await;
                }
                Err(error) => tracing::debug!(%error, "a tunnel did not begin"),
            }
            drop(place);
        });
        bare(StatusCode::OK)
    }
}
