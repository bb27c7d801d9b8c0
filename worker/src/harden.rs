//! Closes a process to the others of its user: it cannot be traced, its memory and environment in
//! `/proc` cannot be read, and it leaves no core file. The flag is lost at `exec`, so this is the
//! first act of a long-running part, before any secret or document is read. It must not know which
//! part.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// A process that could not be closed must not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HardenError {
    #[error("cannot make the process non-dumpable")]
    Dumpable(#[source] rustix::io::Errno),
    #[error("cannot forbid core files")]
    CoreFiles(#[source] rustix::io::Errno),
}

/// Closes this process.
pub(crate) fn harden() -> Result<(), HardenError> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(HardenError::Dumpable)?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(HardenError::CoreFiles)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{dumpable_behavior, getrlimit};

    #[test]
    fn a_hardened_process_is_not_dumpable_and_writes_no_core() {
        harden().unwrap();
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
    }
}
