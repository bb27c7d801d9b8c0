//! Turns a [`SandboxSpec`] into a confined process on this machine, by bubblewrap.
//!
//! A sandbox has a root that is a list of read-only host files, namespaces of its own, no
//! capability, a system call filter, bounds on memory and processes, and no network but what is
//! handed to it as a descriptor or a bound socket. It ends with the controller. Nothing here knows
//! what a worker, a tenant or a credential is, and there is no way to run a program with less than
//! all of this.

pub mod bwrap;
pub mod cgroup;
pub mod child;
mod delegate;
mod devices;
pub mod doctor;
mod hierarchy;
pub mod instance;
pub mod launch;
pub mod layout;
pub mod lines;
mod observe;
mod pidfd;
mod reap;
pub mod seccomp;
pub mod spawn;
pub mod spec;
mod stray;
mod syscalls;

pub use cgroup::{Cgroups, Kind};
pub use child::{Ended, Output};
pub use instance::Instance;
pub use launch::{Exit, LaunchError, Launcher, Sandbox, Tools};
pub use spec::{Limits, SandboxSpec, Tmpfs};
