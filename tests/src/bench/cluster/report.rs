//! The figures of a cluster beside the budgets. Pure.
//!
//! What a budget says of ten thousand tenants is held against no smaller number.

use super::Figures;
use crate::bench::{
    statistics::milliseconds,
    table::{Budget, Row, Table, Unit, memory, row},
};
use std::time::Duration;

/// How many tenants budgets are of.
const TENANTS: usize = 10_000;

/// Compares what was measured with what was planned.
pub fn report(figures: &Figures) -> Table {
    let scale = figures.scale;
    let (asleep, warm) = (scale.asleep, scale.warm);
    let users = warm + scale.one_by_one;
    let of_many = |budget| (asleep >= TENANTS).then_some(budget);
    let megabytes = |most| of_many(Budget::AtMost(most));
    let sleeping = format!("{asleep} tenants asleep");
    let bound = format!("{asleep} asleep, {users} bound, {warm} warm");
    let mut rows = Vec::new();
    rows.extend(contacts(figures));
    rows.extend(writes(figures));
    rows.extend(memory(
        &format!("operator, {sleeping}"),
        figures.operator_asleep,
        megabytes(150.0),
    ));
    rows.extend(memory(&format!("operator, {bound}"), figures.operator_bound, megabytes(150.0)));
    rows.extend(memory("the next operator, the same", figures.operator_next, megabytes(150.0)));
    rows.extend(memory(&format!("gateway, {sleeping}"), figures.gateway_asleep, megabytes(60.0)));
    rows.extend(memory(&format!("gateway, {bound}"), figures.gateway_bound, megabytes(60.0)));
    let resync = of_many(Budget::AtMost(30.0));
    rows.push(seconds("operator: from the end of one to the lead of the next", figures.led, None));
    rows.push(seconds(
        "operator: from there to its first pass over everything",
        figures.resynced,
        resync,
    ));
    rows.push(seconds("gateway: from its start to ready", figures.gateway_ready, None));
    rows.push(seconds("tenants made, and all told that they sleep", figures.all_told, None));
    rows.push(seconds("pool filled: created, ready, enrolled", figures.filled, None));
    Table(rows)
}

fn contacts(figures: &Figures) -> Vec<Row> {
    let (one, burst) = (&figures.one_by_one, &figures.burst);
    let count = u32::try_from(figures.scale.warm).unwrap_or(u32::MAX);
    let rate = f64::from(count) / burst.took.as_secs_f64();
    let latency = |figure: &str, time, budget| {
        row(figure, Some(milliseconds(time)), Unit::Milliseconds, budget)
    };
    let least = Some(Budget::AtLeast(200.0));
    vec![
        latency("warm first contact, p50", one.first.p50, Some(Budget::AtMost(25.0))),
        latency("warm first contact, p99", one.first.p99, Some(Budget::AtMost(80.0))),
        latency("the same user's next request, p50", one.next.p50, None),
        row(&format!("{count} at once: first contacts"), Some(rate), Unit::PerSecond, least),
        latency(&format!("{count} at once: first contact, p50"), burst.latency.p50, None),
        latency(&format!("{count} at once: first contact, p99"), burst.latency.p99, None),
    ]
}

fn writes(figures: &Figures) -> Vec<Row> {
    let follow_ups = &figures.follow_ups;
    let count = |figure: &str, value, budget| row(figure, Some(value), Unit::Count, budget);
    let most = |value: usize| f64::from(u32::try_from(value).unwrap_or(u32::MAX));
    vec![
        count("API writes per claim on the path, mean", follow_ups.on_path, None),
        count("API writes per claim on the path, most", most(follow_ups.most_on_path), None),
        count("API writes per claim in all, mean", follow_ups.in_all, Some(Budget::AtMost(3.0))),
        count("API writes per claim in all, most", most(follow_ups.most_in_all), None),
        seconds("last word about a claim after its assignment, p50", follow_ups.lag.p50, None),
        seconds(
            "last word about a claim after its assignment, longest",
            follow_ups.longest,
            Some(Budget::AtMost(10.0)),
        ),
    ]
}

fn seconds(figure: &str, time: Duration, budget: Option<Budget>) -> Row {
    row(figure, Some(time.as_secs_f64()), Unit::Seconds, budget)
}
