//! Puts a grant where the MCP server of a class looks for it.
//!
//! A server is given files that name a stand-in: one for the worker's life, because quilt3 reads its files once,
//! whatever grants follow. At the relay it is worth the catalog's bearer to a quilt server, and AWS keys to a server
//! whose class grants such. This module must not know latches, requests, or how a grant came to be.

use super::{
    held_grant::{HeldGrant, Session, StandIn},
    lifeline::{PlaceError, Placing},
};
use http::header::InvalidHeaderValue;
use patchbay_core::{
    aws_keys,
    boot::{RelayBoot, RelayCatalog},
    class::Profile,
    digest::NoRandomness,
    grant::{CatalogGrant, Grant},
    quilt,
};

/// How this worker's grants are stored.
#[derive(Debug)]
pub(crate) enum Credentials {
    /// The server is given nothing.
    Nothing,
    /// It is given a stand-in.
    StandIn(Given),
}

/// What a server is given, and what has become of it.
#[derive(Debug)]
pub(crate) struct Given {
    home: String,
    profile: Profile,
    catalog: Option<RelayCatalog>,
    aws_keys: bool,
    placing: Placing,
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
    NotPlaced(#[from] PlaceError),
}

impl Given {
    /// Files to be placed below `home` at the first bind.
    fn new(home: String, profile: Profile, relay: &RelayBoot, placing: Placing) -> Self {
        let RelayBoot { catalog, aws_keys, .. } = relay;
        let (catalog, aws_keys) = (catalog.clone(), *aws_keys);
        Self { home, profile, catalog, aws_keys, placing, stand_in: None, is_placed: false }
    }

    async fn store(&mut self, grant: &Grant) -> Result<Session, StoreError> {
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
            self.placing.place(files).await?;
            self.is_placed = true;
        }
        Ok(session)
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
    pub(crate) fn new(home: String, profile: Profile, relay: &RelayBoot, placing: Placing) -> Self {
        if profile == Profile::Generic && !relay.aws_keys {
            return Self::Nothing;
        }
        Self::StandIn(Given::new(home, profile, relay, placing))
    }

    /// Stores `grant` for the MCP server.
    pub(crate) async fn store(&mut self, grant: Grant) -> Result<HeldGrant, StoreError> {
        let session = match self {
            Self::Nothing => None,
            Self::StandIn(given) => Some(given.store(&grant).await?),
        };
        Ok(HeldGrant::new(grant, session))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::{digest::Digest, grant::AwsGrant};

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
        Credentials::new("/home".into(), profile, &relay, Placing::new().0)
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
        assert!(matches!(quilt().store(none).await, Err(StoreError::NoCatalog)));
        let other = grant("https://registry.example:444", "bearer");
        assert!(matches!(quilt().store(other).await, Err(StoreError::OtherCatalog)));
        let broken = grant(&catalog().registry, "a\nb");
        assert!(matches!(quilt().store(broken).await, Err(StoreError::InvalidBearer(_))));
    }

    #[tokio::test]
    async fn the_stand_in_outlives_a_failure_to_place_it() {
        let mut credentials = quilt();
        let mut stand_ins = Vec::new();
        for _ in 0..2 {
            let stored = credentials.store(grant(&catalog().registry, "bearer")).await;
            assert!(matches!(stored, Err(StoreError::NotPlaced(_))), "{stored:?}");
            let Credentials::StandIn(given) = &credentials else { unreachable!() };
            stand_ins.push(given.stand_in.as_ref().unwrap().as_str().to_owned());
        }
        assert_eq!(stand_ins[0], stand_ins[1]);
    }

    #[tokio::test]
    async fn a_generic_server_is_given_nothing() {
        let mut credentials = credentials(Profile::Generic, false);
        let held = credentials.store(grant("x", "y")).await.unwrap();
        assert!(held.session().is_none());
    }

    #[tokio::test]
    async fn a_class_that_grants_keys_takes_no_grant_without_them() {
        for profile in [Profile::Generic, Profile::Quilt] {
            let stored = credentials(profile, true).store(grant(&catalog().registry, "b")).await;
            assert!(matches!(stored, Err(StoreError::NoKeys)), "{stored:?}");
            let with = Grant { aws: Some(keys()), ..grant(&catalog().registry, "b") };
            let stored = credentials(profile, true).store(with).await;
            assert!(matches!(stored, Err(StoreError::NotPlaced(_))), "{stored:?}");
        }
    }

    #[tokio::test]
    async fn a_generic_server_is_given_keys_and_no_way_to_a_catalog() {
        let (placing, mut orders) = Placing::new();
        let relay = RelayBoot { catalog: Some(catalog()), aws_keys: true, ..RelayBoot::default() };
        let mut credentials = Credentials::new("/home".into(), Profile::Generic, &relay, placing);
        let storing = tokio::spawn(async move {
            let grant = Grant { aws: Some(keys()), ..grant(&catalog().registry, "bearer") };
            credentials.store(grant).await
        });
        let files = orders.recv().await.unwrap().placed();
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].path, "/home/.patchbay/aws-token");
        let held = storing.await.unwrap().unwrap();
        let session = held.session().unwrap();
        assert!(session.authorization.is_none() && session.keys.is_some());
        assert_eq!(files[0].text, session.stand_in.as_str());
    }
}
