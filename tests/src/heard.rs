//! What a program of Patchbay's told a test: its log as it comes, and its metrics at its end. Where this is let go of,
//! nothing that is secret may be in either: the test fails, without anybody having thought of asking. It must not know
//! which program it is, nor what the test is about.

use crate::known;
use parking_lot::Mutex;
use serde_json::Value;
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

/// How long a program that may have been stopped is asked for its metrics.
const LIMIT: Duration = Duration::from_secs(2);

/// What one program told. Of the fields of whoever runs it this comes before the process, which it asks a last time.
pub struct Heard {
    of: &'static str,
    log: Log,
}

/// What it logged so far, for whoever reads it.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<String>>);

impl Log {
    /// Adds a line.
    pub fn add(&self, line: &str) {
        let mut text = self.0.lock();
        text.push_str(line);
        text.push('\n');
    }

    /// All of it.
    pub fn text(&self) -> String {
        self.0.lock().clone()
    }
}

impl Heard {
    /// Nothing yet, of this program.
    pub fn of(program: &'static str) -> Self {
        Self { of: program, log: Log::default() }
    }

    /// Where its log goes.
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// Where it said that its admin pages are, as an address or as a URL.
    fn admin(&self) -> Option<SocketAddr> {
        let text = self.log.text();
        let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let line = lines.find(|line| line["message"] == "admin pages")?;
        let place = line["url"].as_str().or(line["address"].as_str())?;
        place.strip_prefix("http://").unwrap_or(place).parse().ok()
    }

    /// Its metrics; none where it has ended, or does not answer.
    fn metrics(&self) -> Option<String> {
        let address = self.admin()?;
        let mut stream = TcpStream::connect_timeout(&address, LIMIT).ok()?;
        stream.set_read_timeout(Some(LIMIT)).ok()?;
        stream.set_write_timeout(Some(LIMIT)).ok()?;
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        // what came until it was cut is looked at too
        let _ = stream.read_to_end(&mut answer);
        Some(String::from_utf8_lossy(&answer).into_owned())
    }

    fn has_no_secret(&self) -> anyhow::Result<()> {
        known::not_in_log(&format!("the log of {}", self.of), &self.log.text())?;
        let metrics = self.metrics().unwrap_or_default();
        known::not_in_log(&format!("the metrics of {}", self.of), &metrics)
    }
}

impl Drop for Heard {
    #[allow(clippy::panic, reason = "nobody has to think of asking, and nobody can be told")]
    fn drop(&mut self) {
        // a test that fails already says why
        if !std::thread::panicking()
            && let Err(found) = self.has_no_secret()
        {
            panic!("{found}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;
    use serde_json::json;
    use std::{
        net::TcpListener,
        panic::{AssertUnwindSafe, catch_unwind},
        thread,
    };

    /// What letting go of it says.
    fn told(heard: Heard) -> String {
        let dropped = catch_unwind(AssertUnwindSafe(move || drop(heard)));
        dropped.err().and_then(|it| it.downcast::<String>().ok()).map_or_else(String::new, |it| *it)
    }

    #[test]
    fn a_secret_in_a_log_fails_whoever_lets_go_of_it_and_is_not_repeated() {
        known::hold("a planted one", "the-secret-in-a-log-of-heard");
        let heard = Heard::of("a program");
        heard.log().add("nothing");
        assert_eq!(told(heard), "");
        let heard = Heard::of("a program");
        heard.log().add("before the-secret-in-a-log-of-heard after");
        let told = told(heard);
        assert!(told.contains("a planted one") && told.contains("the log of a program"), "{told}");
        assert!(!told.contains("the-secret-in"), "{told}");
    }

    #[test]
    fn a_secret_in_metrics_that_no_test_has_read_is_found_too() -> anyhow::Result<()> {
        known::hold("a planted one", "the-secret-in-metrics-of-heard");
        let server = TcpListener::bind("127.0.0.1:0")?;
        let address = server.local_addr()?;
        let answers = thread::spawn(move || {
            let (mut client, _) = server.accept()?;
            let mut asked = [0; 14];
            client.read_exact(&mut asked)?;
            client.write_all(
                b"HTTP/1.1 200 OK\r\n\r\nof{it=\"the-secret-in-metrics-of-heard\"} 1\n",
            )?;
            anyhow::Ok(asked)
        });
        let heard = Heard::of("a program");
        let line = json!({ "message": "admin pages", "url": format!("http://{address}") });
        heard.log().add(&line.to_string());
        let told = told(heard);
        assert_eq!(answers.join().ok().context("it panicked")??, *b"GET /metrics H");
        assert!(told.contains("the metrics of a program"), "{told}");
        // and a program that is no more has none
        let ended = Heard::of("a program");
        let line = json!({ "message": "admin pages", "address": address });
        ended.log().add(&line.to_string());
        assert_eq!(self::told(ended), "");
        Ok(())
    }
}
