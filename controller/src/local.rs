//! `patchbay local`: gateway, broker and local orchestrator in one process.
//!
//! It reads the documents, refuses what is wrong with them, builds the parts, serves until the first
//! signal and drains; a second signal ends it at once.

use crate::{
    admin::{self, Admin, WarmWorkers},
    args::{LocalArgs, SandboxArgs},
    ca,
    clients::wait_for_signal,
    counted::{Counted, Counts},
    key_files::KeyFiles,
    probes, telemetry,
    tenant_documents::{Following, Tenants, tenants},
    token_endpoint::TokenEndpoints,
};
use anyhow::{Context, bail, ensure};
use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::Timestamp;
use parking_lot::Mutex;
use patchbay_broker::{AwsSts, Broker};
use patchbay_core::{
    class::WorkerClass,
    digest::DigestKey,
    provider::IdentityProvider,
    routing::{Route, RouteTable},
    session::SessionRoots,
};
use patchbay_crds::{WorkerClassSpec, documents, worker_class::ignored_locally};
use patchbay_gateway::{
    Gateway, Limits, Listener,
    authn::{self, Authenticator, NamedKeys, Sources},
    forward::{link::LinkContext, pinned::LinkCertificate},
    metrics::Metrics,
    service::{Composition, Configuration},
};
use patchbay_orchestrator::local::{
    LocalConfig, LocalOrchestrator, RunDir,
    sandbox::{Cgroups, Instance, Launcher, Tools},
};
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use std::{
    fmt::Display,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio_util::sync::CancellationToken;

/// Runs until a signal.
pub(crate) fn run(args: LocalArgs) -> anyhow::Result<()> {
    telemetry::install()?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(args))
}

async fn serve(args: LocalArgs) -> anyhow::Result<()> {
    let LocalArgs { files, listen, admin_listen, provider_secrets, clients, sandbox } = args;
    let Validated { classes, providers, tenants, following } = read_documents(files)?;
    let routes = RouteTable::build(&classes, &providers)
        .map_err(|errors| refused("the documents contradict each other", &errors))?;
    ensure!(
        admin_listen.ip().is_loopback(),
        "--admin-listen {admin_listen} must be a loopback address: what it shows is for this machine"
    );
    let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let named = provider_secrets.map(|at| Arc::new(KeyFiles(at)) as Arc<dyn NamedKeys>);
    let sources = Sources { crypto: crypto.clone(), cluster: None, named };
    for provider in &providers {
        authn::check_keys(provider, &sources).await?;
    }
    let endpoints = TokenEndpoints { crypto: crypto.clone(), secrets: sources.named.clone() };
    for class in &classes {
        endpoints.check(class).await?;
    }
    // the addresses first: a second instance fails here, before it starts any worker
    ensure_nobody_else_comes(&classes, listen)?;
    let (listener, renewal) = clients.listen(listen).await?;
    let admin_socket = probes::listen(admin_listen).await?;

    let admin_address = admin_socket.local_addr()?;
    let public_url = clients.public_url(&listener)?;
    let ca = ca::make()?;
    let orchestrator = start_orchestrator(
        &classes,
        tenants,
        sandbox,
        ca.roots,
        vec![listener.address()?, admin_address],
    )?;
    show_environments(&classes);
    let reached = routes.routes().to_vec();
    let mut registry = Registry::default();
    show_isolation(&orchestrator, &mut registry);
    show_ambient(&classes, &mut registry);
    let authenticator = Authenticator::new(DigestKey::generate()?, &providers, &sources)?;
    let certificate = Arc::new(LinkCertificate::new(ca.gateway, &crypto)?);
    let counts = Counts::register(&mut registry);
    let gateway = Arc::new(Gateway::new(Composition {
        configuration: Arc::new(ArcSwap::from_pointee(Configuration { routes, authenticator })),
        names: clients.names(listener.address()?),
        public_url,
        orchestrator: orchestrator.clone(),
        grants: Arc::new(Broker::of_one_machine(
            Arc::new(Counted(AwsSts::new(crypto.clone())?, counts.clone())),
            Arc::new(Counted(endpoints, counts)),
        )),
        links: Arc::new(LinkContext {
            crypto,
            certificate,
            // tenants are this process's, and so are their sessions
            sessions: Arc::new(ArcSwapOption::from_pointee(SessionRoots::generate(
                Timestamp::now(),
            )?)),
            limits: Limits::default(),
        }),
        metrics: Metrics::register(&mut registry),
    }));

    let shutdown = CancellationToken::new();
    let pages = admin::router(
        Admin {
            orchestrator: orchestrator.clone(),
            gateway: gateway.clone(),
            warm: WarmWorkers::register(&mut registry),
            registry: Arc::new(Mutex::new(registry)),
        },
        admin_address,
    );
    let admin = tokio::spawn(
        axum::serve(admin_socket, pages)
            .with_graceful_shutdown(shutdown.clone().cancelled_owned())
            .into_future(),
    );
    announce(&reached, &listener, admin_address)?;
    let serving = tokio::spawn(listener.serve(gateway, shutdown.clone()));
    tokio::spawn(shutdown.clone().run_until_cancelled_owned(renewal.run()));
    let tenants = orchestrator.clone();
    let followed = following.run(move |made| tenants.set_tenants(made));
    tokio::spawn(shutdown.clone().run_until_cancelled_owned(followed));

    wait_for_signal().await?;
    tracing::info!("shutting down; a second signal ends at once");
    shutdown.cancel();
    let drained = async {
        serving.await?;
        orchestrator.shutdown().await;
        admin.await??;
        anyhow::Ok(())
    };
    tokio::select! {
        drained = drained => drained,
        second = wait_for_signal() => {
            second?;
            // dropping the runtime ends the sandboxes with this process
            Ok(())
        }
    }
}

/// What the documents say, ready for use.
struct Validated {
    classes: Vec<Arc<WorkerClass>>,
    providers: Vec<Arc<IdentityProvider>>,
    tenants: Tenants,
    following: Following,
}

fn read_documents(files: Vec<PathBuf>) -> anyhow::Result<Validated> {
    let unusable = |errors: Vec<_>| refused("the documents are not usable", &errors);
    let texts = documents::texts(&files);
    let documents = documents::read(&texts).map_err(unusable)?;
    let valid = documents.validate().map_err(unusable)?;
    let missing: Vec<_> = documents
        .classes
        .iter()
        .flat_map(|(origin, class)| missing_here(&class.spec, origin, Path::exists))
        .collect();
    if !missing.is_empty() {
        return Err(refused("the documents name what this machine does not have", &missing));
    }
    for (origin, class) in &documents.classes {
        let fields = ignored_locally(class).join(", ");
        tracing::info!(document = %origin, fields, "used by clusters only, ignored here");
    }
    ensure!(
        !valid.classes.is_empty(),
        "the documents hold no WorkerClass: there is nothing to serve"
    );
    Ok(Validated {
        tenants: tenants(&valid),
        following: Following::new(files, texts, &valid),
        classes: valid.classes.into_iter().map(Arc::new).collect(),
        providers: valid.providers.into_iter().map(Arc::new).collect(),
    })
}

/// What a class needs of this machine and `exists` does not find: without it no worker would ever start.
fn missing_here(
    class: &WorkerClassSpec,
    origin: &impl Display,
    exists: impl Fn(&Path) -> bool,
) -> Vec<String> {
    let local = &class.local;
    let (field, command) = match &local.command {
        Some(command) => ("spec.local.command[0]", command),
        None => ("spec.command[0]", &class.command),
    };
    let program = command.first().filter(|program| !exists(program.as_ref())).map(|program| {
        format!(
            "{origin}: {field}: `{program}` does not exist; install it, or say in \
             spec.local.command where it is on this machine"
        )
    });
    let shown = local.read_only_paths.iter().enumerate();
    let shown = shown.filter(|(_, path)| !exists(path.as_ref())).map(|(index, path)| {
        format!(
            "{origin}: spec.local.readOnlyPaths[{index}]: `{path}` does not exist; make it, or \
             take it out"
        )
    });
    program.into_iter().chain(shown).collect()
}

/// An error that lists everything that is wrong.
pub(crate) fn refused(what: &str, errors: &[impl std::fmt::Display]) -> anyhow::Error {
    let list: Vec<_> = errors.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("{what}:\n  - {}", list.join("\n  - "))
}

fn start_orchestrator(
    classes: &[Arc<WorkerClass>],
    tenants: Tenants,
    args: SandboxArgs,
    roots: String,
    own_addresses: Vec<SocketAddr>,
) -> anyhow::Result<Arc<LocalOrchestrator>> {
    let SandboxArgs { worker, run_dir } = args;
    let worker_program = worker_program(worker)?;
    let root = run_root(run_dir)?;
    let (run_dir, swept) = RunDir::create(&root)?;
    let cgroups = Cgroups::open(&Instance::new()?);
    let ended = cgroups.sweep().context("cannot clean up after an earlier start")?;
    if !swept.is_empty() || !ended.is_empty() {
        tracing::info!(?swept, ?ended, "cleaned up after an earlier start");
    }
    let launcher = Launcher::new(Tools::with_worker(&worker_program), cgroups)
        .context("sandboxes cannot be run here; `patchbay doctor` says what to fix")?;
    let max_starting = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    let config = LocalConfig {
        worker_program,
        roots,
        max_starting,
        // a claim that is still alive has bound its worker, or given up, by then
        bind_limit: Limits::default().hold * 2,
        own_addresses,
    };
    LocalOrchestrator::start(classes, tenants, launcher, config, run_dir)
        .context("cannot make the sockets through which workers reach out")
}

/// What a class asks for that is weaker than it could be is never silent either.
fn show_environments(classes: &[Arc<WorkerClass>]) {
    for class in classes.iter().filter(|class| !class.templates.env.is_empty()) {
        let names: Vec<_> = class.templates.env.keys().collect();
        tracing::warn!(
            condition = "CredentialsInEnvironment",
            class = %class.name,
            ?names,
            "users' credentials are put into the environment of their MCP server, where all that it starts \
             finds them; spec.credentials.files is better where the server can read a file"
        );
    }
}

/// A weaker isolation is never silent: a line in the log, and a metric to alert on.
fn show_isolation(orchestrator: &LocalOrchestrator, registry: &mut Registry) {
    let degraded = Gauge::<i64>::default();
    if let Some(why) = orchestrator.isolation_degraded() {
        tracing::warn!(
            condition = "IsolationDegraded",
            why,
            "workers are bounded less than they should be"
        );
        degraded.set(1);
    }
    let help = "1 where workers are bounded less than they should be (IsolationDegraded)";
    registry.register("patchbay_isolation_degraded", help, degraded);
}

/// Who gives somebody their own AWS identity does so to themselves: other machines have no business here.
fn ensure_nobody_else_comes(
    classes: &[Arc<WorkerClass>],
    listen: SocketAddr,
) -> anyhow::Result<()> {
    let ambient = classes.iter().find(|class| class.credentials.is_ambient());
    if let Some(class) = ambient.filter(|_| !listen.ip().is_loopback()) {
        bail!(
            "class `{}`: spec.credentials.source: `ambient` gives this machine's own AWS identity to one user of this \
             machine, and --listen {listen} is for others too; listen on a loopback address, or use another source",
            class.name
        );
    }
    Ok(())
}

/// That somebody has the AWS identity of this process is never silent: a line in the log, and a metric.
fn show_ambient(classes: &[Arc<WorkerClass>], registry: &mut Registry) {
    let ambient = Gauge::<i64>::default();
    for class in classes.iter().filter(|class| class.credentials.is_ambient()) {
        tracing::warn!(
            condition = "AmbientIdentity",
            class = %class.name,
            "the one user of this class has this process's own AWS identity"
        );
        ambient.inc();
    }
    let help = "Classes whose one user has this process's own AWS identity (AmbientIdentity)";
    registry.register("patchbay_ambient_identity", help, ambient);
}

/// The worker's program: as told, or beside this one.
pub(crate) fn worker_program(told: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let path = match told {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("patchbay-worker"),
    };
    let found = path
        .canonicalize()
        .with_context(|| format!("there is no worker program at {} (--worker)", path.display()))?;
    ensure!(found.is_file(), "{} (--worker) is not a file", found.display());
    Ok(found)
}

fn run_root(told: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(path) = told {
        return Ok(std::path::absolute(path)?);
    }
    if let Some(runtime) = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        return Ok(PathBuf::from(runtime).join("patchbay"));
    }
    if rustix::process::geteuid().is_root() {
        return Ok("/run/patchbay".into());
    }
    bail!("XDG_RUNTIME_DIR is not set: give a directory for sockets with --run-dir")
}

fn announce(routes: &[Route], listener: &Listener, admin: SocketAddr) -> anyhow::Result<()> {
    let scheme = if listener.is_tls() { "https" } else { "http" };
    let address = listener.address()?;
    for route in routes {
        let class = &route.class;
        let url = format!("{scheme}://{address}{}", class.path);
        tracing::info!(class = %class.name, url, warm = class.warm, modes = route.modes(), "serving");
    }
    tracing::info!(url = format!("http://{admin}"), "admin pages");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::{
        class::{Ambient, CredentialSource},
        fixtures,
    };
    use serde_json::json;

    #[test]
    fn who_gives_their_own_identity_listens_to_their_own_machine_alone() {
        let (issuer, subject, region) = ("i".into(), "s".into(), "us-east-1".into());
        let ambient = Ambient { issuer, subject, region, catalog: None };
        let credentials = CredentialSource::Ambient(Box::new(ambient));
        let own = WorkerClass { credentials, ..fixtures::class("own", "/own") };
        let classes = [fixtures::class("tools", "/mcp"), own].map(Arc::new);
        let refused = |classes: &[Arc<WorkerClass>], listen: &str| {
            let refused = ensure_nobody_else_comes(classes, listen.parse().unwrap());
            refused.err().map(|error| error.to_string())
        };
        for loopback in ["127.0.0.1:8080", "[::1]:8080"] {
            assert_eq!(refused(&classes, loopback), None);
        }
        assert_eq!(refused(&classes[..1], "0.0.0.0:8080"), None);
        let told = refused(&classes, "0.0.0.0:8080").unwrap();
        assert!(told.contains("`own`") && told.contains("listen on a loopback address"), "{told}");
    }

    #[test]
    fn what_a_class_needs_and_the_machine_lacks_is_named_with_its_field_and_a_fix() {
        let class: WorkerClassSpec = serde_json::from_value(json!({
            "image": "i", "command": ["/opt/server", "--flag"],
            "local": { "readOnlyPaths": ["/opt", "/nope"] },
        }))
        .unwrap();
        let missing = |there: &[&str]| {
            missing_here(&class, &"a.yaml, document 1", |path| {
                there.iter().any(|known| Path::new(known) == path)
            })
        };
        assert!(missing(&["/opt", "/nope", "/opt/server"]).is_empty());
        assert_eq!(
            missing(&["/opt"]),
            [
                "a.yaml, document 1: spec.command[0]: `/opt/server` does not exist; install it, or \
                 say in spec.local.command where it is on this machine",
                "a.yaml, document 1: spec.local.readOnlyPaths[1]: `/nope` does not exist; make it, \
                 or take it out",
            ]
        );
    }
}
