//! A documentation site, as `search_docs_quilt_bio` of quilt-mcp reads one: an index of site maps, a map, and pages, over
//! TLS and by the name of the real one. It counts what it was asked for, and must not know by whom.

use crate::{catalog::tls::TestCa, own_network, tls_front::TlsFront};
use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use parking_lot::Mutex;
use std::{net::Ipv4Addr, sync::Arc};
use tokio::{net::TcpListener, task::JoinSet};

/// The site's name.
pub const DOCS: &str = "docs.quilt.bio";

/// The site; it ends when dropped.
pub struct DocsSite {
    asked: Arc<Mutex<Vec<String>>>,
    _front: TlsFront,
    _serving: JoinSet<()>,
}

impl DocsSite {
    /// In a network of a test's own, where its name leads there; `ca` vouches for it.
    pub async fn open(ca: &TestCa) -> anyhow::Result<Self> {
        let front = TlsFront::open_as(DOCS, own_network::at(443), ca).await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        front.lead_to(listener.local_addr()?);
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let pages = Router::new().fallback(page).with_state(asked.clone());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            // it ends with the set
            let _ = axum::serve(listener, pages).await;
        });
        Ok(Self { asked, _front: front, _serving: serving })
    }

    /// The paths that it was asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }
}

async fn page(State(asked): State<Arc<Mutex<Vec<String>>>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    asked.lock().push(path.clone());
    match path.as_str() {
        "/sitemap.xml" => format!(
            "<sitemapindex><sitemap><loc>https://{DOCS}/sitemap-pages.xml</loc></sitemap></sitemapindex>"
        ),
        "/sitemap-pages.xml" => format!(
            "<urlset><url><loc>https://{DOCS}/guides/readme</loc><lastmod>2026-01-01</lastmod></url>\
             <url><loc>https://{DOCS}/guides/other</loc></url></urlset>"
        ),
        "/guides/readme" => {
            "<html><title>On README files</title><p>What stands in a README.</p></html>".to_owned()
        }
        _ => return StatusCode::NOT_FOUND.into_response(),
    }
    .into_response()
}
