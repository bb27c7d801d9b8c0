//! Puts a grant where the MCP server of a profile looks for it.
//!
//! A quilt server is given a session whose bearer is a stand-in: one for the worker's life, because
//! quilt3 reads its files once, whatever grants follow. This module must not know latches,
//! requests, or how a grant came to be.

use super::{
    held_grant::{HeldGrant, Session, StandIn},
    lifeline::{PlaceError, Placing},
};
use http::header::InvalidHeaderValue;
use patchbay_core::{boot::RelayCatalog, digest::NoRandomness, grant::Grant, quilt};

/// How this worker's grants are stored.
#[derive(Debug)]
pub(crate) enum Credentials {
    /// A generic server is given nothing.
    Generic,
    /// `quilt-mcp`.
    Quilt(QuiltSession),
}

/// What a quilt server is given, and what has become of it.
#[derive(Debug)]
pub(crate) struct QuiltSession {
    home: String,
    catalog: Option<RelayCatalog>,
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
    #[error("the grant's bearer cannot be sent")]
    InvalidBearer(#[source] InvalidHeaderValue),
    #[error("no stand-in could be made")]
    StandIn(#[from] NoRandomness),
    #[error("the session's files are not in place")]
    NotPlaced(#[from] PlaceError),
}

impl QuiltSession {
    /// A session to be placed below `home` at the first bind; `catalog` is the class's.
    pub(crate) fn new(home: String, catalog: Option<RelayCatalog>, placing: Placing) -> Self {
        Self { home, catalog, placing, stand_in: None, is_placed: false }
    }

    async fn store(&mut self, grant: &Grant) -> Result<Session, StoreError> {
        let granted = grant.catalog.as_ref().ok_or(StoreError::NoCatalog)?;
        // a bearer is shown to the class's origins alone, so it must have been made for these
        let is_the_class_s = self.catalog.as_ref().is_some_and(|class| {
            class.origin == granted.origin && class.registry == granted.registry
        });
        if !is_the_class_s {
            return Err(StoreError::OtherCatalog);
        }
        let stand_in = match &self.stand_in {
            Some(stand_in) => stand_in.clone(),
            None => self.stand_in.insert(StandIn::generate()?).clone(),
        };
        let session = Session::new(stand_in, &granted.bearer).map_err(StoreError::InvalidBearer)?;
        if !self.is_placed {
            let stand_in = session.stand_in.as_str();
            let files = quilt::session_files(&granted.registry, stand_in, &self.home);
            self.placing.place(files.into()).await?;
            self.is_placed = true;
        }
        Ok(session)
    }
}

impl Credentials {
    /// Stores `grant` for the MCP server.
    pub(crate) async fn store(&mut self, grant: Grant) -> Result<HeldGrant, StoreError> {
        let session = match self {
            Self::Generic => None,
            Self::Quilt(quilt) => Some(quilt.store(&grant).await?),
        };
        Ok(HeldGrant::new(grant, session))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::{digest::Digest, grant::CatalogGrant};

    fn catalog() -> RelayCatalog {
        RelayCatalog {
            origin: "https://catalog.example".into(),
            registry: "https://registry.example".into(),
            ca_bundle: None,
        }
    }

    fn quilt() -> Credentials {
        // its other end is gone: nothing can be placed
        Credentials::Quilt(QuiltSession::new("/home".into(), Some(catalog()), Placing::new().0))
    }

    fn grant(registry: &str, bearer: &str) -> Grant {
        Grant {
            credential: Digest::of(b"credential"),
            expires_at: None,
            catalog: Some(CatalogGrant {
                origin: catalog().origin,
                registry: registry.into(),
                bearer: bearer.into(),
            }),
            aws: None,
            allowed: None,
        }
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
            let Credentials::Quilt(quilt) = &credentials else { unreachable!() };
            stand_ins.push(quilt.stand_in.as_ref().unwrap().as_str().to_owned());
        }
        assert_eq!(stand_ins[0], stand_ins[1]);
    }

    #[tokio::test]
    async fn a_generic_server_is_given_nothing() {
        let held = Credentials::Generic.store(grant("x", "y")).await.unwrap();
        assert!(held.session().is_none());
    }
}
