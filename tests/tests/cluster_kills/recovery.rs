//! What each outage cost, as a table: how long until all was as before. It must not know who measures.

use parking_lot::Mutex;
use std::{fmt::Write as _, time::Duration};

static ROWS: Mutex<Vec<(&str, &str, Duration)>> = Mutex::new(Vec::new());

/// Notes that `what` came to be so long after `outage`, and prints all that is known so far: the test that is last
/// prints everything.
pub(crate) fn report(outage: &'static str, what: &'static str, took: Duration) {
    let mut rows = ROWS.lock();
    rows.push((outage, what, took));
    let mut table = String::new();
    for (outage, what, took) in &*rows {
        let _ = writeln!(table, "  {outage:<28} {what:<48} {:>6.1} s", took.as_secs_f64());
    }
    println!("what an outage cost:\n{table}");
}
