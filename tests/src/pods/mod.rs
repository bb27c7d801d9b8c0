//! Workers as pods of a real cluster, as their operator and their gateways see them: images, a control
//! plane's authority, the objects that the operator's builders make, and both ends of the link's control.
//!
//! There is no operator and no gateway here: a test does by hand, step by step, what they will do.

pub mod authority;
pub mod images;
pub mod operator;
pub mod stage;
pub mod tenant;

pub use self::{
    authority::Authority,
    operator::Operator,
    stage::{Class, PodWorker, Stage},
    tenant::Tenant,
};
