//! The agent: admits one tenant's requests to the MCP server, and holds what the tenant may hold.
//!
//! It turns one boot document into a mutually authenticated link, a bind into a latch, and admitted
//! requests into requests to the MCP server through the host; it leaves when it is idle, asked, or
//! without its server. It must not know Kubernetes or other tenants, and only [`policy`] what MCP
//! messages say.

mod answer;
mod bind;
mod clock;
mod control_body;
mod control_socket;
mod credentials;
mod departure;
mod drain;
mod enrol;
mod forward;
mod headers;
mod held_grant;
mod idle;
mod in_flight;
mod lifeline;
mod lingering;
mod link;
mod location;
mod opening;
mod policy;
mod readiness;
mod relay;
mod relayed;
mod report;
mod reservation;
mod reserve;
mod route;
mod server;
mod session_ids;
mod sse_pair;
mod starting;
mod state;
mod stdio;
mod tls;
mod upstream;

#[cfg(fuzzing)]
pub use {
    headers::fuzzing as fuzzing_of_headers, policy::events_fuzzing as fuzzing_of_events,
    relay::fuzzing, stdio::fuzzing as fuzzing_of_stdio,
};

use self::{
    credentials::Credentials,
    departure::Departure,
    lifeline::{Order, Orders},
    link::Link,
    policy::Policy,
    relay::{Relay, RelayError},
    report::{ReportError, Reporter},
    server::Server,
    starting::Starter,
    state::Worker,
    tls::{Rules, TlsError},
};
use crate::listen::{self, ListenError, Reserved};
use patchbay_core::{
    boot::{AgentBoot, ReportLine},
    class::Start,
    idle::IdlePolicy,
    link::LeaveReason,
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

/// Why an agent could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error("cannot watch signals")]
    Signals(#[source] io::Error),
    #[error("no place to report to")]
    Report(#[from] ReportError),
    #[error("no identity for the link")]
    Tls(#[from] TlsError),
    #[error("no way in")]
    Listen(#[from] ListenError),
    #[error("no way out for the MCP server")]
    Relay(#[from] RelayError),
}

/// How an agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left(LeaveReason);

impl Left {
    /// Whether it left as workers do, and not for want of its MCP server.
    pub(crate) const fn is_expected(self) -> bool {
        !matches!(self.0, LeaveReason::ServerExited | LeaveReason::ServerNotReady)
    }
}

/// Runs the agent until it has left.
pub(crate) async fn run(boot: AgentBoot) -> Result<Left, AgentError> {
    let AgentBoot {
        class,
        link,
        control,
        server,
        report,
        token,
        roots,
        transport,
        profile,
        start,
        templates,
        home,
        relay,
        tools,
        limits,
        idle_timeout_seconds,
        max_age_seconds,
        drain_seconds,
        start_seconds,
    } = boot;
    let mut terminate = signal(SignalKind::terminate()).map_err(AgentError::Signals)?;
    let reporter = Reporter::open(report)?;
    let identity = tls::Identity::generate()?;
    let fingerprint = identity.fingerprint;
    let tls = Rules::new(identity, roots).await?;
    let link_side = Reserved::take(&link).await?;
    let control_side = listen::unix(&control)?;

    let start_limit = Duration::from_secs(start_seconds);
    let (giving, orders) = Orders::new();
    let (home, files) = (home.display().to_string(), &templates.files);
    let credentials = Credentials::new(home, profile, &relay, files, giving.clone());
    let worker = Arc::new(Worker::new(credentials));
    let relay = Arc::new(Relay::new(relay, Arc::clone(&worker))?);
    let idle_timeout = Duration::from_secs(idle_timeout_seconds);
    let server = Arc::new(Server::new(server, transport, idle_timeout));
    let policy = Policy::new(tools, limits, profile);
    let starter = match start {
        Start::Warm => None,
        Start::OnBind => Some(Starter::new(giving, Arc::clone(&server), templates, start_limit)),
    };
    let (of_link, to_server) = (Arc::clone(&worker), Arc::clone(&server));
    let link = Link::new(of_link, to_server, policy, starter, tls, token);
    tokio::spawn(opening::serve(link.clone(), link_side, Arc::clone(&worker)));
    reporter.write(&ReportLine::Enrolled(fingerprint));
    tracing::info!(%class, %fingerprint, "listening");

    let host = HostSide { listener: control_side, orders, relay };
    // one that is started at bind is waited for there
    let server = start.is_warm().then_some(server);
    tokio::spawn(follow(Arc::clone(&worker), host, server, start_limit, reporter.clone()));
    let policy = IdlePolicy { idle_timeout, max_age: max_age_seconds.map(Duration::from_secs) };
    tokio::spawn(idle::watch(Arc::clone(&worker), policy));
    tokio::spawn(report_bind(Arc::clone(&worker), reporter.clone()));

    tokio::select! {
        () = worker.leaving() => {}
        _ = terminate.recv() => worker.leave(LeaveReason::Drained.into()),
    }
    let drain_limit = Duration::from_secs(drain_seconds);
    tokio::select! {
        () = drain::drain(&worker, &link, drain_limit) => {}
        _ = terminate.recv() => tracing::warn!("asked to end again; cutting what is in flight"),
    }
    let farewell = worker.farewell();
    tracing::info!(%class, reason = ?farewell.reason, detail = farewell.detail, "left");
    let left = Left(farewell.reason);
    reporter.write(&ReportLine::Farewell(farewell));
    Ok(left)
}

/// Tells the parent once that a tenant has the worker: one that was assigned and is never bound is of
/// no use to anybody.
async fn report_bind(worker: Arc<Worker>, reporter: Reporter) {
    let mut changes = worker.changes();
    while worker.status().tenant.is_none() {
        if worker.is_leaving() || changes.changed().await.is_err() {
            return;
        }
    }
    reporter.write(&ReportLine::Bound);
}

/// What the host connects to, and what it is to do.
struct HostSide {
    listener: UnixListener,
    orders: mpsc::Receiver<Order>,
    relay: Arc<Relay>,
}

/// Sees the host come, the MCP server if it comes with it, and later either of them go.
async fn follow(
    worker: Arc<Worker>,
    host: HostSide,
    server: Option<Arc<Server>>,
    limit: Duration,
    reporter: Reporter,
) {
    let deadline = tokio::time::Instant::now() + limit;
    let not_ready = |detail: &str| Departure::new(LeaveReason::ServerNotReady, detail);
    let Ok(lifeline) = tokio::time::timeout_at(deadline, lifeline::accept(&host.listener)).await
    else {
        return worker.leave(not_ready("the host did not connect in time"));
    };
    tokio::spawn(control_socket::serve(host.listener, host.relay));
    let mut ended = std::pin::pin!(lifeline.serve(host.orders));
    let answers = async {
        match &server {
            Some(server) => server.ready(deadline).await,
            None => Ok(()),
        }
    };
    tokio::select! {
        answers = answers => {
            if let Err(met) = answers {
                let why = format!("the MCP server did not answer in time: {met}");
                return worker.leave(not_ready(&why));
            }
            worker.set_ready();
            reporter.write(&ReportLine::Ready);
        }
        departure = &mut ended => return worker.leave(departure),
    }
    worker.leave(ended.await);
}
