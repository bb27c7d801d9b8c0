//! The figures of one machine beside the budgets. Pure.
//!
//! A budget is held against a figure only where both mean the same load; the others are there to
//! explain the first ones, and have none.

use super::{
    first_contact::FirstContact,
    statistics::milliseconds,
    table::{Budget, Row, Table, Unit, memory, row},
    throughput::{Footprint, Setting, Throughput},
};

/// Compares what was measured with what was planned.
pub fn report(first_contact: &FirstContact, throughput: &Throughput) -> Table {
    let mut rows = first_contact_rows(first_contact);
    rows.extend(throughput.settings.iter().flat_map(setting_rows));
    rows.push(one_core(&throughput.settings));
    rows.extend(memory_rows("idle", &throughput.idle));
    rows.extend(memory_rows("after load", &throughput.loaded));
    let users = first_contact.users;
    rows.extend(memory(&format!("gateway with {users} tenants"), first_contact.gateway, None));
    Table(rows)
}

fn first_contact_rows(contact: &FirstContact) -> Vec<Row> {
    let row = |figure: &str, time, budget| {
        row(figure, Some(milliseconds(time)), Unit::Milliseconds, budget)
    };
    vec![
        row("warm first contact, p50", contact.first.p50, Some(Budget::AtMost(25.0))),
        row("warm first contact, p99", contact.first.p99, Some(Budget::AtMost(80.0))),
        row("the same user's next request, p50", contact.bound.p50, None),
        row("the same user's next request, p99", contact.bound.p99, None),
    ]
}

fn setting_rows(setting: &Setting) -> Vec<Row> {
    let row = |figure: &str, measured, unit, budget| {
        row(&format!("{} conn: {figure}", setting.connections), Some(measured), unit, budget)
    };
    // With more connections than cores, time spent in queues is measured, not on the way.
    let budget = |limit| (setting.connections == 1).then_some(Budget::AtMost(limit));
    let (direct, through) = (&setting.direct, &setting.through);
    vec![
        row("direct p50", direct.p50, Unit::Milliseconds, None),
        row("gateway p50", through.p50, Unit::Milliseconds, None),
        row("added p50", setting.added_p50, Unit::Milliseconds, budget(0.15)),
        row("direct p99", direct.p99, Unit::Milliseconds, None),
        row("gateway p99", through.p99, Unit::Milliseconds, None),
        row("added p99", setting.added_p99, Unit::Milliseconds, budget(0.5)),
        row("direct throughput", direct.rate, Unit::PerSecond, None),
        row("gateway throughput", through.rate, Unit::PerSecond, None),
        row("gateway / direct throughput", setting.ratio, Unit::Ratio, None),
    ]
}

/// By what the gateway used under the most connections, where it wakes up least often per request.
fn one_core(settings: &[Setting]) -> Row {
    let busiest = settings.iter().max_by_key(|setting| setting.connections);
    let measured = busiest.and_then(|setting| setting.per_cpu_second);
    let connections = busiest.map_or(0, |setting| setting.connections);
    row(
        &format!("{connections} conn: requests per CPU second of the gateway"),
        measured,
        Unit::PerSecond,
        Some(Budget::AtLeast(20_000.0)),
    )
}

fn memory_rows(when: &str, footprint: &Footprint) -> Vec<Row> {
    let Footprint { gateway, agent, host } = *footprint;
    let beside = Some(Budget::AtMost(10.0));
    [
        ("gateway", gateway, None),
        ("agent", agent, None),
        ("host", host, None),
        ("agent and host", agent + host, beside),
    ]
    .into_iter()
    .flat_map(|(part, held, budget)| memory(&format!("{part}, {when}"), held, budget))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{footprint::Memory, rounds::Side, statistics::Latency};
    use std::time::Duration;

    fn report(first_p99: u64, rate: f64) -> String {
        let latency =
            |p99| Latency { p50: Duration::from_millis(1), p99: Duration::from_millis(p99) };
        let held = Memory { resident: 6_000_000, anonymous: 1_000_000 };
        let footprint = Footprint { gateway: held, agent: held, host: held };
        let side = Side { p50: 1.0, p99: 2.0, rate: 900.0 };
        let setting = |connections| Setting {
            connections,
            direct: side,
            through: side,
            added_p50: 0.15,
            added_p99: -0.1,
            ratio: 1.0,
            per_cpu_second: (connections == 64).then_some(rate),
        };
        let contact = FirstContact {
            users: 200,
            first: latency(first_p99),
            bound: latency(500),
            gateway: held,
        };
        let settings = vec![setting(1), setting(64)];
        super::report(&contact, &Throughput { settings, idle: footprint, loaded: footprint })
            .to_string()
    }

    fn verdict(report: &str, figure: &str) -> String {
        let line = report.lines().find(|line| line.starts_with(&format!("| {figure} "))).unwrap();
        line.split('|').nth(4).unwrap().trim().to_owned()
    }

    #[test]
    fn a_figure_at_its_budget_is_ok_and_one_beyond_is_over() {
        let slow = report(80, 19_999.0);
        let report = report(81, 20_000.0);
        assert_eq!(verdict(&report, "warm first contact, p50"), "ok");
        assert_eq!(verdict(&report, "warm first contact, p99"), "over");
        assert_eq!(verdict(&report, "1 conn: added p50"), "ok");
        assert_eq!(verdict(&report, "agent and host, idle: VmRSS"), "over");
        let per_core = "64 conn: requests per CPU second of the gateway";
        assert_eq!(verdict(&report, per_core), "ok");
        assert_eq!(verdict(&slow, per_core), "over");
    }

    #[test]
    fn a_figure_of_another_load_than_the_budgets_has_no_verdict() {
        let report = report(80, 1.0);
        assert_eq!(verdict(&report, "64 conn: added p50"), "n/a");
        assert_eq!(verdict(&report, "the same user's next request, p99"), "n/a");
        assert_eq!(verdict(&report, "gateway with 200 tenants: VmRSS"), "n/a");
    }

    #[test]
    fn all_lines_of_the_table_are_equally_wide() {
        let report = report(80, 20_000.0);
        let mut widths: Vec<usize> = report.lines().map(str::len).collect();
        widths.dedup();
        assert_eq!(widths.len(), 1, "{report}");
    }
}
