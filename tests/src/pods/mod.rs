//! Workers as pods of a real cluster, as their operator and their gateways see them: images, a control
//! plane's authority, the objects that the operator's builders make, and both ends of the link's control.
//!
//! A test takes the operator's place and does by hand, step by step, what it does; or it runs the real one
//! ([`OperatorProcess`]). Where a gateway is wanted, it is the real one ([`gateway`]).

pub mod audit;
pub mod authority;
pub mod containers;
pub mod doubles;
pub mod gateway;
pub mod images;
pub mod lossy;
pub mod mounted;
pub mod operator;
pub mod process;
pub mod roots;
pub mod stage;
pub mod tenant;
pub mod users;
pub mod watched;

pub use self::{
    authority::Authority,
    gateway::{Gateway, GatewayConfig, root_keys},
    lossy::Lossy,
    mounted::Mounted,
    operator::Operator,
    process::{KeptOperator, OperatorProcess},
    stage::{Class, PodWorker, Stage},
    tenant::Tenant,
};
