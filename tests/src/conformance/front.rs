//! A reverse proxy on loopback, for clients that cannot send a credential: it adds one where there is none, keeps `Host`,
//! passes what comes as it comes, and goes away with its client. It can be given one fault, to see whether a test finds it.

use super::fault::{Body, Fault, Memory, Owners, SESSION, call_id, key_id, unpacked};
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header, uri::PathAndQuery};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use std::sync::Arc;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// The proxy; it ends when dropped.
pub struct Front {
    /// The URL of what lies behind, through it.
    pub url: String,
    _serving: JoinSet<()>,
}

struct Way {
    origin: Uri,
    credential: HeaderValue,
    fault: Fault,
    memory: Memory,
    owners: Owners,
    client: Client<HttpConnector, Body>,
}

impl Front {
    /// Leads from a free port to `url`, and adds a bearer to each request that has none.
    pub async fn to(url: &str, token: &str, fault: Fault) -> anyhow::Result<Self> {
        let origin: Uri = url.parse()?;
        let path = origin.path().to_owned();
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let way = Arc::new(Way {
            origin,
            credential: format!("Bearer {token}").parse()?,
            fault,
            memory: Memory::default(),
            owners: Owners::default(),
            client: Client::builder(TokioExecutor::new()).build(connector),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}{path}", listener.local_addr()?);
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, way));
        Ok(Self { url, _serving: serving })
    }
}

async fn serve(listener: TcpListener, way: Arc<Way>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => drop(connections.spawn(connection(client, way.clone()))),
                Err(_) => return,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(client: TcpStream, way: Arc<Way>) {
    // what is streamed comes in small pieces, which must not wait for each other
    let _ = client.set_nodelay(true);
    let service = service_fn(move |request| {
        let way = way.clone();
        async move { way.pass(request).await }
    });
    // a client that is gone is told nothing more
    let _ = http1::Builder::new().serve_connection(TokioIo::new(client), service).await;
}

impl Way {
    async fn pass(&self, request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
        let (mut head, body) = request.into_parts();
        head.uri = at(&self.origin, head.uri.path_and_query().cloned())?;
        head.headers.entry(header::AUTHORIZATION).or_insert_with(|| self.credential.clone());
        self.mistake(&mut head.headers);
        let presented = head.headers.clone();
        let (body, call) = match self.fault {
            Fault::Unpacks | Fault::ByIdAlone => {
                let mut whole = body.collect().await?.to_bytes();
                let call = call_id(&whole).filter(|_| self.fault == Fault::ByIdAlone);
                if self.fault == Fault::Unpacks {
                    whole = unpacked(&whole);
                }
                head.headers.insert(header::CONTENT_LENGTH, whole.len().into());
                (Full::new(whole).map_err(|never| match never {}).boxed_unsync(), call)
            }
            _ => (body.boxed_unsync(), None),
        };
        let answer = self.client.request(Request::from_parts(head, body));
        if let Some(id) = call {
            return self.memory.of(id, answer).await;
        }
        let fault = self.fault;
        let answer = async move { Ok(answer.await?.map(|body| fault.pass(body))) };
        if fault == Fault::Deaf {
            // a task of its own goes on when nobody waits for it
            return tokio::spawn(answer).await?;
        }
        let answer: Response<_> = answer.await?;
        // only who begins a session has not named it
        let begun = answer.headers().get(SESSION).filter(|_| !presented.contains_key(SESSION));
        if let Some(id) = begun.and_then(|id| id.to_str().ok()) {
            self.owners.learn(id, &presented);
        }
        Ok(answer)
    }

    /// What its fault does to the headers of a request.
    fn mistake(&self, headers: &mut HeaderMap) {
        match self.fault {
            Fault::Drops(name) => drop(headers.remove(name)),
            Fault::BySession => self.owners.present(SESSION, headers),
            Fault::Believes(name) => {
                if let Some(user) = key_id(headers) {
                    self.owners.learn(&user, headers);
                }
                self.owners.present(name, headers);
            }
            Fault::RewritesHost => {
                headers.remove(header::ORIGIN);
                // the name of what lies behind takes its place
                headers.remove(header::HOST);
            }
            _ => {}
        }
    }
}

fn at(origin: &Uri, rest: Option<PathAndQuery>) -> anyhow::Result<Uri> {
    let mut parts = origin.clone().into_parts();
    parts.path_and_query = rest;
    Ok(Uri::from_parts(parts)?)
}
