//! One request, from its headers to its answer: the one way through.
//!
//! Each step is a module; this one only puts them in order, and decides what may be tried again after a
//! worker refused a request that its MCP server never saw.

mod forward;

use self::forward::{AgentAnswer, Forward, agents_own, broken, header_bytes};
use crate::{
    activate::{ActivateError, Activator, Bound, InFlight, Request as Activation, Settled},
    again::Again,
    answer::AnswerBody,
    authn::{Admitted, Authenticator, AuthnError, NotAdmitted, presented},
    config::Limits,
    diagnosis::{Told, form},
    drain::{Drain, Ending, is_event_stream},
    forward::{
        body::Source,
        headers,
        link::{LinkBody, LinkContext, SendError, link_uri},
    },
    last_word::{self, LastWord, Word},
    metrics::Metrics,
    origin::AllowedNames,
    parked::{self, Parked},
    public_url::PublicUrl,
    respond::{Refusal, refuse},
    streams::{OpenStream, Streams},
    waiting::WaitingRoom,
    well_known::{WellKnown, classify, metadata, metadata_url},
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Version, header, request::Parts};
use http_body::{Body, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use jiff::Timestamp;
use patchbay_core::{
    chain::Chain,
    grant::GrantSource,
    id::ProviderName,
    link::forward_path,
    orchestrator::Orchestrator,
    routing::{Route, RouteTable},
    tenant::TenantName,
};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// The gateway's data path. It is shared by all connections.
pub struct Gateway {
    configuration: Arc<ArcSwap<Configuration>>,
    names: AllowedNames,
    public_url: PublicUrl,
    activator: Activator,
    streams: Streams,
    drain: Drain,
    waiting: Arc<WaitingRoom>,
    /// Which credentials were told of.
    told: Told,
    limits: Limits,
    metrics: Metrics,
}

/// What a gateway is made of.
pub struct Composition {
    /// Who may reach what; may be exchanged at any time.
    pub configuration: Arc<ArcSwap<Configuration>>,
    /// The names that it answers to.
    pub names: AllowedNames,
    /// How clients address it.
    pub public_url: PublicUrl,
    /// Where workers are.
    pub orchestrator: Arc<dyn Orchestrator>,
    /// Where grants come from.
    pub grants: Arc<dyn GrantSource>,
    /// What links to workers need, and the bounds.
    pub links: Arc<LinkContext>,
    /// What is counted.
    pub metrics: Metrics,
}

/// Who may reach what. Routes and judges are exchanged together: a request is decided by those of one moment.
pub struct Configuration {
    /// The routes.
    pub routes: RouteTable,
    /// Who judges credentials.
    pub authenticator: Authenticator,
}

/// What becomes known of a request on its way, for its answer and its log line.
#[derive(Debug, Default)]
struct RequestContext {
    request_id: String,
    class: String,
    metadata_url: Option<String>,
    /// What was presented, by its form.
    mode: &'static str,
    /// Who was to judge it.
    provider: Option<ProviderName>,
    /// The claim that it lacks.
    missing: Option<String>,
    /// Whose it is, where that is known.
    tenant: Option<TenantName>,
    /// Whether its user sleeps on.
    is_parked: bool,
}

/// How often a request whose MCP server saw nothing of it is sent to another worker. Each time needs a
/// worker that was alive when it was looked up and left before the request arrived.
const MAX_ATTEMPTS: usize = 4;

/// How long a refused HTTP/1.1 client may go on sending before it is answered.
const LINGER: Duration = Duration::from_secs(1);

/// What a worker answered.
struct Forwarded {
    response: Response<Incoming>,
    /// The call that it is.
    call: Option<InFlight>,
    bound: Arc<Bound>,
}

/// What an answer's outcome is called in metrics when a worker gave it.
const FORWARDED: &str = "forwarded";
/// And where its user sleeps on.
const PARKED: &str = "parked";

impl Gateway {
    /// A gateway.
    pub fn new(parts: Composition) -> Self {
        let Composition { configuration, names, public_url, orchestrator, grants, links, metrics } =
            parts;
        let limits = links.limits;
        let judge = Arc::new(Again(configuration.clone()));
        Self {
            activator: Activator::new(orchestrator, grants, judge.clone(), links),
            streams: Streams::new(judge),
            configuration,
            names,
            public_url,
            drain: Drain::default(),
            waiting: WaitingRoom::new(limits.waiters_per_tenant, limits.waiting_bytes),
            told: Told::default(),
            limits,
            metrics,
        }
    }

    /// The gateway's bounds.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// When this gateway last had a request of a tenant.
    pub fn last_request(&self, tenant: &TenantName) -> Option<Timestamp> {
        self.activator.last_request(tenant)
    }

    /// How event streams end.
    pub const fn drain(&self) -> &Drain {
        &self.drain
    }

    /// What the gateway counts.
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Answers one request.
    pub async fn serve(&self, request: Request<Incoming>) -> Response<AnswerBody> {
        let request_id = uuid::Uuid::new_v4().simple().to_string();
        let configuration = self.configuration.load_full();
        let (head, body) = request.into_parts();
        let size = body.size_hint();
        let source = Source::new(body, self.limits.body_bytes, self.limits.replay_bytes);
        let may_linger = head.version < Version::HTTP_2
            && size.exact() != Some(0)
            && !head.headers.contains_key(header::EXPECT);
        let mut context = RequestContext { request_id, ..RequestContext::default() };
        let outcome = self.answer(&configuration, head, &size, &source, &mut context).await;
        let RequestContext {
            request_id,
            class,
            metadata_url,
            mode,
            provider,
            missing,
            tenant,
            is_parked,
        } = context;
        match outcome {
            Ok(response) => {
                self.metrics.request(&class, if is_parked { PARKED } else { FORWARDED });
                response
            }
            Err(refusal) => {
                self.metrics.request(&class, refusal.reason());
                tracing::info!(
                    request_id,
                    class,
                    reason = refusal.reason(),
                    mode,
                    provider = provider.as_ref().map(ProviderName::as_str),
                    missing,
                    tenant = tenant.as_ref().map(TenantName::as_str),
                    error = &refusal as &dyn std::error::Error,
                    "refused"
                );
                if may_linger {
                    // whether the client finishes or not, it is answered now
                    let _ = timeout(LINGER, source.drain(self.limits.body_bytes)).await;
                }
                refuse(&refusal, &request_id, metadata_url.as_deref()).map(AnswerBody::Own)
            }
        }
    }

    async fn answer(
        &self,
        configuration: &Configuration,
        head: Parts,
        size: &SizeHint,
        source: &Source<Incoming>,
        context: &mut RequestContext,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let Configuration { routes: table, authenticator } = configuration;
        self.check_size(&head.headers, size)?;
        let class_hosts = table.routes().iter().filter_map(|route| route.class.host.as_deref());
        let host = self.names.check(&head.uri, &head.headers, class_hosts)?;
        let base = |route: &Route| self.public_url.base(route.class.host.as_deref(), &host);
        match classify(&host.name, head.uri.path(), table) {
            WellKnown::No => {}
            WellKnown::Metadata(route) => return Ok(document(&metadata(&base(route), route))),
            WellKnown::NotFound => return Err(Refusal::NoRoute),
        }
        let presented = presented::read(&head.headers, head.uri.query());
        context.mode = form(&presented);
        // without a credential, not even the existence of a path is told
        let Some((route, rest)) = table.find(&host.name, head.uri.path()) else {
            return Err(presented.err().map_or(Refusal::NoRoute, Refusal::Authn));
        };
        context.class = route.class.name.to_string();
        context.metadata_url = metadata_url(&base(route), route);
        let admitted = self.authenticate(authenticator, presented, route, context).await?;
        let uri = link_uri(&forward_path(rest, head.uri.query())).map_err(|_| Refusal::NoRoute)?;
        let tenant = admitted.user.identity.tenant(&route.class.name);
        let name = tenant.name();
        context.tenant = Some(name.clone());
        context.provider = Some(admitted.user.identity.provider.clone());
        self.told.admitted(&admitted, route, &name, &context.request_id).await;
        self.streams.shown(&name, &admitted.user, Timestamp::now());
        let forward = Forward {
            tenant,
            name,
            admitted: &admitted,
            route,
            head: &head,
            wakes: parked::wakes(&head.method, rest, &head.headers),
            uri,
            request_id: HeaderValue::from_str(&context.request_id).map_err(|_| Refusal::NoRoute)?,
        };
        let Some(Forwarded { response, call, bound }) = self.forward(&forward, source).await?
        else {
            context.is_parked = true;
            return Ok(self.park(&forward));
        };
        let (answered, body) = response.into_parts();
        let (end, stream) = self.stream(&forward, &answered.headers);
        let body = LastWord::new(body, self.last_word(&forward, source, &answered.headers, &bound));
        let body =
            AnswerBody::Worker { body: Ending::new(body, end), _call: call, _stream: stream };
        Ok(Response::from_parts(answered, body))
    }

    /// What a stream says last if it breaks off before it has answered a call.
    fn last_word(
        &self,
        forward: &Forward<'_>,
        source: &Source<Incoming>,
        answered: &HeaderMap,
        bound: &Bound,
    ) -> Option<Word> {
        // what is compressed, or as long as was said, takes nothing more
        let is_open = is_event_stream(answered)
            && !answered.contains_key(header::CONTENT_ENCODING)
            && !answered.contains_key(header::CONTENT_LENGTH);
        if !is_open || !forward.is_call() {
            return None;
        }
        let ids = last_word::ids(&source.whole().or_else(|| source.outline())?)?;
        let request_id = forward.request_id.clone();
        Some(Word { ids, request_id, is_over: Box::pin(self.activator.ends(bound)) })
    }

    /// A stream that lasts until its user is awake.
    fn park(&self, forward: &Forward<'_>) -> Response<AnswerBody> {
        let response = parked::answer(Parked::until(self.activator.awake(&forward.name)));
        let (end, stream) = self.stream(forward, response.headers());
        response.map(|body| AnswerBody::Parked { body: Ending::new(body, end), _stream: stream })
    }

    /// What ends an answer before its time, and that it is open, if it is an event stream.
    fn stream(
        &self,
        forward: &Forward<'_>,
        answered: &HeaderMap,
    ) -> (Option<CancellationToken>, Option<OpenStream>) {
        let asked = (&forward.head.method, &forward.head.headers);
        let end = self.drain.end_of(asked, answered);
        let stream = end.clone().map(|end| {
            let whose = (&forward.name, &forward.route.class.name);
            self.streams.opened(whose, &forward.admitted.user, Timestamp::now(), end)
        });
        (end, stream)
    }

    fn check_size(&self, headers: &HeaderMap, body: &SizeHint) -> Result<(), Refusal> {
        let bytes = header_bytes(headers);
        if headers.len() > self.limits.headers || bytes > self.limits.header_bytes {
            return Err(Refusal::HeadersTooLarge {
                count: self.limits.headers,
                bytes: self.limits.header_bytes,
            });
        }
        if body.lower() > self.limits.body_bytes {
            return Err(Refusal::BodyTooLarge(self.limits.body_bytes));
        }
        Ok(())
    }

    async fn authenticate(
        &self,
        authenticator: &Authenticator,
        presented: Result<presented::Presented, AuthnError>,
        route: &Route,
        context: &mut RequestContext,
    ) -> Result<Admitted, Refusal> {
        let outcome = match presented {
            Ok(presented) => authenticator.authenticate(presented, route, Timestamp::now()).await,
            Err(error) => Err(error.into()),
        };
        match outcome {
            Ok(admitted) => {
                self.metrics.authentication(route.mode(&admitted.user.identity), "ok");
                Ok(admitted)
            }
            Err(NotAdmitted { error, provider }) => {
                self.metrics.authentication(context.mode, error.reason());
                context.provider = provider;
                if let AuthnError::MissingClaim(claim) = &error {
                    context.missing = Some(claim.clone());
                }
                Err(error.into())
            }
        }
    }

    /// A worker's answer, and the call that it is; none where the user sleeps on.
    async fn forward(
        &self,
        forward: &Forward<'_>,
        source: &Source<Incoming>,
    ) -> Result<Option<Forwarded>, Refusal> {
        let name = &forward.name;
        for _ in 0..MAX_ATTEMPTS {
            let activation = forward.activation();
            let Some(bound) = self.worker(forward, &activation).await? else {
                return Ok(None);
            };
            let call = if forward.is_call() {
                self.activator.in_flight(&activation, &bound)
            } else {
                None
            };
            let body = source.attempt().ok_or(Refusal::WorkerReplaced)?;
            match bound.link.send(forward.request(&bound, LinkBody::Forwarded(body))?).await {
                Ok(mut response) => match agents_own(&response) {
                    None => {
                        headers::to_client(response.headers_mut(), &forward.route.class.path);
                        return Ok(Some(Forwarded { response, call, bound }));
                    }
                    Some(AgentAnswer::Misdirected) => {
                        tracing::warn!(
                            tenant = %name, worker = %bound.placement.offer.worker,
                            "a worker refused a request of its assigned tenant"
                        );
                        self.activator.forget(name, &bound);
                    }
                    Some(AgentAnswer::Failed) => {
                        return Err(broken(source, self.limits.body_bytes));
                    }
                },
                Err(SendError::Refused) => self.activator.worker_leaves(name, &bound),
                Err(SendError::NotSent(_)) => {}
                Err(error @ SendError::Dial(_)) => {
                    tracing::warn!(
                        tenant = %name, worker = %bound.placement.offer.worker,
                        error = %Chain(&error), "a bound worker cannot be dialled"
                    );
                    if self.activator.settled(&bound).await == Settled::Silent {
                        return Err(ActivateError::Unreachable.into());
                    }
                }
                Err(SendError::Broken(error)) => {
                    if source.end().is_none() {
                        tracing::warn!(error = %Chain(&error), "a worker broke off");
                    }
                    return Err(broken(source, self.limits.body_bytes));
                }
            }
        }
        Err(Refusal::WorkerReplaced)
    }

    /// The tenant's worker: at once if it is bound, else as soon as it is, within the bounds of waiting. None where the
    /// tenant sleeps on.
    async fn worker(
        &self,
        forward: &Forward<'_>,
        activation: &Activation<'_>,
    ) -> Result<Option<Arc<Bound>>, Refusal> {
        if let Some(bound) = self.activator.ready(activation) {
            return Ok(Some(bound));
        }
        let _place = self.waiting.enter(&forward.name, forward.held_bytes(&self.limits))?;
        let _counted = self.metrics.waiting();
        let begun = Instant::now();
        let bound = self.activator.activate(activation).await?;
        if bound.is_some() {
            self.metrics.activation(begun.elapsed());
        }
        Ok(bound)
    }
}

fn document(json: &serde_json::Value) -> Response<AnswerBody> {
    let body = AnswerBody::Own(Full::new(Bytes::from(json.to_string())));
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
