//! Writes a worker's first and last words where its parent reads them: lines on an inherited
//! descriptor, or the farewell alone in a pod's termination message. It must not know what they are
//! about.

use crate::inherited::{self, InheritedError};
use parking_lot::Mutex;
use patchbay_core::boot::{Report, ReportLine};
use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
};

/// A place to report to.
#[derive(Debug, Clone)]
pub(crate) enum Reporter {
    Lines(Arc<Mutex<File>>),
    TerminationLog(PathBuf),
}

/// A place that cannot be reported to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    #[error("descriptor {fd} cannot be written")]
    Descriptor {
        fd: i32,
        #[source]
        source: InheritedError,
    },
}

impl Reporter {
    /// Opens the place.
    pub(crate) fn open(report: Report) -> Result<Self, ReportError> {
        match report {
            Report::Fd(fd) => inherited::writer(fd)
                .map(|file| Self::Lines(Arc::new(Mutex::new(file))))
                .map_err(|source| ReportError::Descriptor { fd, source }),
            Report::TerminationLog(path) => Ok(Self::TerminationLog(path)),
        }
    }

    /// Writes one line. Four short lines in a life fit into any pipe, so this does not block; and
    /// a worker goes on where nobody listens, since its parent's end is told otherwise.
    pub(crate) fn write(&self, line: &ReportLine) {
        let result = match (self, line) {
            (Self::Lines(file), line) => write_line(&mut file.lock(), line),
            (Self::TerminationLog(path), ReportLine::Farewell(farewell)) => {
                serde_json::to_vec(farewell)
                    .map_err(io::Error::from)
                    .and_then(|text| fs::write(path, text))
            }
            (Self::TerminationLog(_), _) => Ok(()),
        };
        if let Err(error) = result {
            tracing::warn!(%error, "the parent could not be told");
        }
    }
}

fn write_line(file: &mut File, line: &ReportLine) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    // one write, which the kernel does not mix with others where it is this short
    file.write_all(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::link::{Farewell, LeaveReason};

    #[test]
    fn a_termination_message_holds_the_farewell_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("termination-log");
        let reporter = Reporter::open(Report::TerminationLog(path.clone())).unwrap();
        reporter.write(&ReportLine::Ready);
        assert!(!path.exists());
        let farewell =
            Farewell { tenant: None, reason: LeaveReason::Idle, last_activity: None, detail: None };
        reporter.write(&ReportLine::Farewell(farewell.clone()));
        let written = fs::read(&path).unwrap();
        assert_eq!(serde_json::from_slice::<Farewell>(&written).unwrap(), farewell);
    }
}
