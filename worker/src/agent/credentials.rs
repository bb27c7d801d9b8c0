//! Puts a grant where the MCP server of a class looks for it.
//!
//! A server is given files that name a stand-in: one for the worker's life, because quilt3 reads its files once,
//! whatever grants follow. At the relay it is worth the catalog's bearer to a quilt server, and AWS keys to a server
//! whose class grants such. What a class has made by templates is written anew with every grant. This module must not
//! know latches, requests, or how a grant came to be.

use super::{
    held_grant::{HeldGrant, Session, StandIn},
    lifeline::{OrderError, Orders},
};
use http::header::InvalidHeaderValue;
use patchbay_core::{
    aws_keys,
    boot::{RelayBoot, RelayCatalog},
    class::Profile,
    digest::NoRandomness,
    grant::{CatalogGrant, Grant},
    link::User,
    quilt::{self, PlacedFile},
    template::{FileTemplate, MOST_FILE_BYTES, RenderError, Values},
};

/// How this worker's grants are stored.
#[derive(Debug)]
pub(crate) enum Credentials {
    /// The server is given nothing.
    Nothing,
    /// It is given files.
    Files(Given),
}

/// What a server is given, and what has become of it.
#[derive(Debug)]
pub(crate) struct Given {
    home: String,
    profile: Profile,
    catalog: Option<RelayCatalog>,
    aws_keys: bool,
    templates: Vec<FileTemplate>,
    orders: Orders,
    /// Made once. It is kept also where placing it failed: the server may have read it all the
    /// same.
    stand_in: Option<StandIn>,
    is_placed: bool,
}

/// A grant that could not be stored. The texts name no secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("the grant has no access to a catalog")]
    NoCatalog,
    #[error("the grant is for another catalog than the class's")]
    OtherCatalog,
    #[error("the grant has no AWS keys")]
    NoKeys,
    #[error("the grant's bearer cannot be sent")]
    InvalidBearer(#[source] InvalidHeaderValue),
    #[error("no stand-in could be made")]
    StandIn(#[from] NoRandomness),
    #[error("the session's files are not in place")]
    NotPlaced(#[source] OrderError),
    #[error("the file `{path}` cannot be made")]
    Template {
        path: String,
        #[source]
        source: RenderError,
    },
    #[error("the file `{path}` is not in place")]
    FileNotPlaced {
        path: String,
        #[source]
        source: OrderError,
    },
}

impl Given {
    /// Files to be placed below `home`: those of a session at the first bind, those of templates at each.
    fn new(
        home: String,
        profile: Profile,
        relay: &RelayBoot,
        templates: &[FileTemplate],
        orders: Orders,
    ) -> Self {
        let RelayBoot { catalog, aws_keys, .. } = relay;
        let (catalog, aws_keys, templates) = (catalog.clone(), *aws_keys, templates.to_vec());
        Self {
            home,
            profile,
            catalog,
            aws_keys,
            templates,
            orders,
            stand_in: None,
            is_placed: false,
        }
    }

    async fn store(
        &mut self,
        grant: &Grant,
        user: Option<&User>,
    ) -> Result<Option<Session>, StoreError> {
        // before anything is placed: a grant is stored whole or, as far as that can be known, not at all
        let files = self.made(Values { aws: grant.aws.as_ref(), user })?;
        let session = self.session(grant).await?;
        for file in files {
            let path = file.path.clone();
            let placed = self.orders.place(vec![file]).await;
            placed.map_err(|source| StoreError::FileNotPlaced { path, source })?;
        }
        Ok(session)
    }

    /// What the templates make of these values.
    fn made(&self, values: Values<'_>) -> Result<Vec<PlacedFile>, StoreError> {
        let made = self.templates.iter().map(|FileTemplate { path, template }| {
            let fail = |source| StoreError::Template { path: path.clone(), source };
            let text = template.render(values, MOST_FILE_BYTES).map_err(fail)?;
            Ok(PlacedFile { path: format!("{}/{path}", self.home), text, mode: 0o600 })
        });
        made.collect()
    }

    async fn session(&mut self, grant: &Grant) -> Result<Option<Session>, StoreError> {
        if self.profile == Profile::Generic && !self.aws_keys {
            return Ok(None);
        }
        let catalog = match self.profile {
            Profile::Generic => None,
            Profile::Quilt => Some(of_class(grant, self.catalog.as_ref())?),
        };
        let keys =
            if self.aws_keys { Some(grant.aws.clone().ok_or(StoreError::NoKeys)?) } else { None };
        let stand_in = match &self.stand_in {
            Some(stand_in) => stand_in.clone(),
            None => self.stand_in.insert(StandIn::generate()?).clone(),
        };
        let session = Session::new(stand_in, catalog.map(|granted| &granted.bearer), keys)
            .map_err(StoreError::InvalidBearer)?;
        if !self.is_placed {
            let stand_in = session.stand_in.as_str();
            let mut files = Vec::new();
            if let Some(granted) = catalog {
                files.extend(quilt::session_files(&granted.registry, stand_in, &self.home));
            }
            if self.aws_keys {
                files.push(aws_keys::token_file(&self.home, stand_in));
            }
            self.orders.place(files).await.map_err(StoreError::NotPlaced)?;
            self.is_placed = true;
        }
        Ok(Some(session))
    }
}

/// The grant's catalog. A bearer is shown to the class's origins alone, so it must have been made for these.
fn of_class<'a>(
    grant: &'a Grant,
    class: Option<&RelayCatalog>,
) -> Result<&'a CatalogGrant, StoreError> {
    let granted = grant.catalog.as_ref().ok_or(StoreError::NoCatalog)?;
    let is_the_class_s = class
        .is_some_and(|class| class.origin == granted.origin && class.registry == granted.registry);
    if is_the_class_s { Ok(granted) } else { Err(StoreError::OtherCatalog) }
}

impl Credentials {
    /// How the grants of a class's workers are stored.
    pub(crate) fn new(
        home: String,
        profile: Profile,
        relay: &RelayBoot,
        templates: &[FileTemplate],
        orders: Orders,
    ) -> Self {
        if profile == Profile::Generic && !relay.aws_keys && templates.is_empty() {
            return Self::Nothing;
        }
        Self::Files(Given::new(home, profile, relay, templates, orders))
    }

    /// Stores `grant` for the MCP server of this user.
    pub(crate) async fn store(
        &mut self,
        grant: Grant,
        user: Option<&User>,
    ) -> Result<HeldGrant, StoreError> {
        let session = match self {
            Self::Nothing => None,
            Self::Files(given) => given.store(&grant, user).await?,
        };
        Ok(HeldGrant::new(grant, session))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::{digest::Digest, grant::AwsGrant, template::Template};
    use secrecy::ExposeSecret as _;

    fn catalog() -> RelayCatalog {
        RelayCatalog {
            origin: "https://catalog.example".into(),
            registry: "https://registry.example".into(),
            ca_bundle: None,
        }
    }

    fn credentials(profile: Profile, aws_keys: bool) -> Credentials {
        let relay = RelayBoot { catalog: Some(catalog()), aws_keys, ..RelayBoot::default() };
        // its other end is gone: nothing can be placed
        Credentials::new("/home".into(), profile, &relay, &[], Orders::new().0)
    }

    fn quilt() -> Credentials {
        credentials(Profile::Quilt, false)
    }

    fn grant(registry: &str, bearer: &str) -> Grant {
        Grant {
            credential: Digest::of(b"credential"),
            expires_at: None,
            catalog: Some(CatalogGrant {
                origin: catalog().origin,
                registry: registry.into(),
                bearer: bearer.into(),
                lease: None,
            }),
            aws: None,
            allowed: None,
        }
    }

    fn keys() -> AwsGrant {
        let end = "2026-01-01T00:00:00Z".parse().unwrap();
        AwsGrant::temporary("ASIAX".into(), "s".into(), "t".into(), end, "us-east-1".into())
            .unwrap()
    }

    #[tokio::test]
    async fn only_a_grant_for_the_classs_own_catalog_is_stored() {
        let none = Grant { catalog: None, ..grant("x", "y") };
        assert!(matches!(quilt().store(none, None).await, Err(StoreError::NoCatalog)));
        let other = grant("https://registry.example:444", "bearer");
        assert!(matches!(quilt().store(other, None).await, Err(StoreError::OtherCatalog)));
        let broken = grant(&catalog().registry, "a\nb");
        assert!(matches!(quilt().store(broken, None).await, Err(StoreError::InvalidBearer(_))));
    }

    #[tokio::test]
    async fn the_stand_in_outlives_a_failure_to_place_it() {
        let mut credentials = quilt();
        let mut stand_ins = Vec::new();
        for _ in 0..2 {
            let stored = credentials.store(grant(&catalog().registry, "bearer"), None).await;
            assert!(matches!(stored, Err(StoreError::NotPlaced(_))), "{stored:?}");
            let Credentials::Files(given) = &credentials else { unreachable!() };
            stand_ins.push(given.stand_in.as_ref().unwrap().as_str().to_owned());
        }
        assert_eq!(stand_ins[0], stand_ins[1]);
    }

    #[tokio::test]
    async fn a_generic_server_is_given_nothing() {
        let mut credentials = credentials(Profile::Generic, false);
        let held = credentials.store(grant("x", "y"), None).await.unwrap();
        assert!(held.session().is_none());
    }

    #[tokio::test]
    async fn a_class_that_grants_keys_takes_no_grant_without_them() {
        for profile in [Profile::Generic, Profile::Quilt] {
            let without = grant(&catalog().registry, "b");
            let stored = credentials(profile, true).store(without, None).await;
            assert!(matches!(stored, Err(StoreError::NoKeys)), "{stored:?}");
            let with = Grant { aws: Some(keys()), ..grant(&catalog().registry, "b") };
            let stored = credentials(profile, true).store(with, None).await;
            assert!(matches!(stored, Err(StoreError::NotPlaced(_))), "{stored:?}");
        }
    }

    #[tokio::test]
    async fn a_generic_server_is_given_keys_and_no_way_to_a_catalog() {
        let (giving, mut orders) = Orders::new();
        let relay = RelayBoot { catalog: Some(catalog()), aws_keys: true, ..RelayBoot::default() };
        let home = "/home".into();
        let mut credentials = Credentials::new(home, Profile::Generic, &relay, &[], giving);
        let storing = tokio::spawn(async move {
            let grant = Grant { aws: Some(keys()), ..grant(&catalog().registry, "bearer") };
            credentials.store(grant, None).await
        });
        let files = orders.recv().await.unwrap().placed();
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].path, "/home/.patchbay/aws-token");
        let held = storing.await.unwrap().unwrap();
        let session = held.session().unwrap();
        assert!(session.authorization.is_none() && session.keys.is_some());
        assert_eq!(files[0].text.expose_secret(), session.stand_in.as_str());
    }

    fn template(text: &str) -> FileTemplate {
        let template = Template::parse(text).unwrap();
        FileTemplate { path: ".config/server.json".into(), template }
    }

    #[tokio::test]
    async fn a_file_of_a_template_is_written_with_each_grant_and_a_stand_in_only_where_one_is_of_use()
     {
        let (giving, mut orders) = Orders::new();
        let templates =
            [template(r#"{"who": "${json:user.subject}", "key": "${aws.accessKeyId}"}"#)];
        let (home, relay) = ("/home".into(), RelayBoot::default());
        let mut credentials = Credentials::new(home, Profile::Generic, &relay, &templates, giving);
        let storing = tokio::spawn(async move {
            let user = User { issuer: "i".into(), subject: "al ice".into() };
            for _ in 0..2 {
                let grant = Grant { aws: Some(keys()), ..grant("x", "y") };
                let held = credentials.store(grant, Some(&user)).await.unwrap();
                assert!(held.session().is_none());
            }
        });
        for _ in 0..2 {
            let files = orders.recv().await.unwrap().placed();
            let [PlacedFile { path, text, mode }] = &files[..] else { panic!("{files:?}") };
            assert_eq!((path.as_str(), *mode), ("/home/.config/server.json", 0o600));
            assert_eq!(text.expose_secret(), r#"{"who": "al ice", "key": "ASIAX"}"#);
            assert!(!format!("{files:?}").contains("ASIAX"));
        }
        storing.await.unwrap();
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_made_or_written_is_named_and_nothing_is_placed_before() {
        let store = async |text: &str, aws_keys| {
            let relay = RelayBoot { aws_keys, ..RelayBoot::default() };
            // its other end is gone: nothing can be placed
            let orders = Orders::new().0;
            let home = "/home".into();
            let templates = [template(text)];
            Credentials::new(home, Profile::Generic, &relay, &templates, orders)
                .store(Grant { aws: Some(keys()), ..grant("x", "y") }, None)
                .await
                .unwrap_err()
        };
        let error = store("${user.subject}", true).await;
        assert!(matches!(error, StoreError::Template { .. }), "{error:?}");
        let error = store("${aws.region}", false).await;
        assert!(matches!(error, StoreError::FileNotPlaced { .. }), "{error:?}");
        assert!(error.to_string().contains("`/home/.config/server.json`"), "{error}");
    }
}
