//! An error together with the logs that explain it: the error first, since of a long text the begin is what is read, and
//! kept.

use anyhow::anyhow;

/// What can go wrong while something else logs.
pub trait Evidence<T> {
    /// Appends logs to an error.
    fn with_logs(self, logs: impl FnOnce() -> String) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Evidence<T> for Result<T, E> {
    fn with_logs(self, logs: impl FnOnce() -> String) -> anyhow::Result<T> {
        self.map_err(|error| anyhow!("{:#}\n\n{}", error.into(), logs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn an_error_is_told_before_the_logs_of_everybody() {
        let failed: anyhow::Result<()> = Err(anyhow!("no answer")).context("alice");
        let told = failed.with_logs(|| "of one".into()).with_logs(|| "of another".into());
        assert_eq!(told.unwrap_err().to_string(), "alice: no answer\n\nof one\n\nof another");
    }
}
