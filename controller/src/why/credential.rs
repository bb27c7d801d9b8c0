//! From a file with a credential, and classes and providers as they are written, to what the credential would get in each
//! class. It fetches what providers name as keys, and shows the credential to nobody. It must not know how that is told.

use super::verdict::{Outcome, Verdict};
use crate::{cluster, gateway, key_files::KeyFiles, local::refused};
use anyhow::{Context, ensure};
use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use kube::{Api, api::ListParams};
use patchbay_broker::{Shown, way, would_show};
use patchbay_core::{
    class::{TokenExchange, WorkerClass},
    digest::{Digest, DigestKey},
    grant::GrantError,
    identity::Authenticated,
    provider::IdentityProvider,
    routing::{Route, RouteTable},
};
use patchbay_crds::documents;
use patchbay_gateway::authn::{
    Authenticator, Examined, NamedKeys, Sources,
    presented::{self, MAX_CREDENTIAL_BYTES, Presented},
};
use patchbay_orchestrator::kubernetes::Definitions;
use rustls::crypto::aws_lc_rs;
use std::{
    fs::File,
    io::{Read, stdin},
    path::{Path, PathBuf},
    sync::Arc,
};
use zeroize::Zeroizing;

/// What is asked.
pub(super) struct Asked {
    pub(super) token: PathBuf,
    pub(super) files: Vec<PathBuf>,
    pub(super) provider_secrets: Option<PathBuf>,
    pub(super) class: Option<String>,
    pub(super) namespace: Option<String>,
}

/// What is written, as far as it can be used, and what is wrong with the rest.
struct Written {
    classes: Vec<Arc<WorkerClass>>,
    providers: Vec<Arc<IdentityProvider>>,
    wrong: Vec<String>,
}

/// What the credential would get, class by class.
pub(super) async fn examine(asked: Asked, now: Timestamp) -> anyhow::Result<Vec<Verdict>> {
    let Asked { token, files, provider_secrets, class, namespace } = asked;
    let crypto = Arc::new(aws_lc_rs::default_provider());
    let (written, sources) = if files.is_empty() {
        let (namespace, client) = cluster::connect(namespace).await?;
        let sources = gateway::sources(&client, &namespace, &crypto);
        (of_cluster(&client, &namespace).await?, sources)
    } else {
        let named = provider_secrets.map(|at| Arc::new(KeyFiles(at)) as Arc<dyn NamedKeys>);
        (of_files(&files)?, Sources { crypto, cluster: None, named })
    };
    let presented = read(&token)?;
    let (routes, quarrels) = RouteTable::build_usable(&written.classes, &written.providers);
    let nobody = Authenticator::new(DigestKey::generate()?, &[], &sources)?;
    let (authenticator, unusable) = nobody.for_providers(&written.providers, &sources);
    let unusable = unusable.iter().map(|error| format!("{error}: {}", error.source));
    let wrong = written.wrong.into_iter().chain(unusable);
    for wrong in wrong.chain(quarrels.iter().map(ToString::to_string)) {
        eprintln!("not usable as it is written: {wrong}");
    }
    let is_wanted =
        |route: &&Route| class.as_deref().is_none_or(|it| it == route.class.name.as_str());
    let wanted: Vec<_> = routes.routes().iter().filter(is_wanted).collect();
    ensure!(!wanted.is_empty(), "no such class can be used: look at `kubectl get workerclasses`");
    let mut verdicts = Vec::new();
    for route in wanted {
        verdicts.push(in_class(&authenticator, &presented, route, now).await);
    }
    Ok(verdicts)
}

async fn in_class(
    authenticator: &Authenticator,
    presented: &Presented,
    route: &Route,
    now: Timestamp,
) -> Verdict {
    let class = &route.class;
    let outcome = match authenticator.examine(presented, route, now).await {
        Err(refused) => Outcome::Refused(refused),
        Ok(Examined::WouldAsk { provider, catalog, entitlement }) => {
            Outcome::WouldAsk { provider, catalog, entitlement }
        }
        Ok(Examined::Proven(identity)) => {
            let secret = presented.secret();
            let digest = Digest::of(secret.as_bytes());
            let user = Authenticated { identity, credential: secret.into(), digest };
            Outcome::Proven {
                tenant: user.identity.tenant(&class.name).name(),
                catalog: Box::new(catalog(class, &user)),
                way: Box::new(way(class, &user, now)),
                identity: user.identity,
            }
        }
    };
    Verdict { class: class.name.clone(), path: class.path.clone(), outcome }
}

/// What the class's catalog would be shown, if it has one.
fn catalog(class: &WorkerClass, user: &Authenticated) -> Option<Result<String, GrantError>> {
    let source = class.credentials.catalog()?;
    let shown = would_show(source, user);
    Some(shown.map(|shown| match shown {
        Shown::AsItIs => format!("{} is shown the credential as it is", source.origin),
        Shown::Exchanged(TokenExchange { token_endpoint, audience, .. }) => format!(
            "{} is shown a token for `{audience}`, which {token_endpoint} would be asked for",
            source.origin
        ),
    }))
}

/// The credential, as a client would present it.
fn read(file: &Path) -> anyhow::Result<Presented> {
    let shown =
        if file == Path::new("-") { "standard input".into() } else { file.display().to_string() };
    let source: Box<dyn Read> = if file == Path::new("-") {
        Box::new(stdin())
    } else {
        Box::new(File::open(file).with_context(|| format!("cannot read {shown}"))?)
    };
    let mut text = Zeroizing::new(String::new());
    // one byte more than is allowed, and an end of the line, so that more is noticed
    let most = MAX_CREDENTIAL_BYTES as u64 + 3;
    source.take(most).read_to_string(&mut text).with_context(|| format!("{shown} is not text"))?;
    let bearer = Zeroizing::new(format!("Bearer {}", text.trim()));
    let mut value = HeaderValue::from_str(&bearer)
        .with_context(|| format!("{shown} holds no token: write it in one line"))?;
    value.set_sensitive(true);
    let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
    presented::read(&headers, None).with_context(|| shown)
}

fn of_files(files: &[PathBuf]) -> anyhow::Result<Written> {
    let unusable = |errors: Vec<_>| refused("the documents are not usable", &errors);
    let valid = documents::load(files).map_err(unusable)?.validate().map_err(unusable)?;
    Ok(Written {
        classes: valid.classes.into_iter().map(Arc::new).collect(),
        providers: valid.providers.into_iter().map(Arc::new).collect(),
        wrong: Vec::new(),
    })
}

async fn of_cluster(client: &kube::Client, namespace: &str) -> anyhow::Result<Written> {
    let all = ListParams::default();
    let classes = Api::<patchbay_crds::WorkerClass>::namespaced(client.clone(), namespace);
    let classes = classes.list(&all).await.context("cannot read classes")?;
    let providers = Api::<patchbay_crds::IdentityProvider>::namespaced(client.clone(), namespace);
    let providers = providers.list(&all).await.context("cannot read providers")?;
    // in the order in which a gateway takes them: of two that quarrel, it has the older
    let definitions = Definitions::of(&classes.items, &providers.items);
    let wrong = definitions.wrong().into_iter();
    Ok(Written {
        classes: definitions.classes(),
        providers: definitions.providers(),
        wrong: wrong.map(|wrong| format!("{}: {}", wrong.object, wrong.problem)).collect(),
    })
}
