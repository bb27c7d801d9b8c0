//! A tenant, as the operator sees it. It writes what it observes and the end of an assignment; who gets which worker,
//! gateways decide.

pub mod forget;
pub mod status;

#[cfg(test)]
mod fixtures;
