//! What a way holds for sessions that do nothing, and for their open streams.

use super::{Era, Running, Transport, Way, running::PROGRAM};
use crate::{
    bench::{
        WaysScale,
        footprint::{self, Memory},
    },
    processes,
};
use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use http::Method;
use std::{fs, path::Path, time::Duration};
use tokio::time::{Instant, sleep};

/// What is the same in two looks has settled.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
const SETTLE_LIMIT: Duration = Duration::from_mins(1);

/// Memory of one way: its processes' own pages, bytes for each session.
#[derive(Debug, PartialEq)]
pub struct Idle {
    pub(super) transport: Transport,
    pub(super) way: Way,
    pub(super) held: Held,
    /// What the way holds before any of them, with one worker or one child: bytes.
    pub(super) before: f64,
    pub(super) sessions: usize,
}

/// Of each session.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Held {
    /// Of the way, for a session without a stream.
    pub(super) session: f64,
    /// Of the way, for a stream beside.
    pub(super) stream: f64,
    /// Of the MCP servers that the way started, for a session.
    pub(super) servers: f64,
}

/// The pages of a way's processes that are their own.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Pages {
    way: f64,
    servers: f64,
}

/// None where there is nothing between client and server.
pub(super) async fn measure(running: &Running, scale: &WaysScale) -> anyhow::Result<Option<Idle>> {
    let (Some(pid), Some(endpoint)) = (running.pid(), running.endpoint(Era::Legacy)?) else {
        return Ok(None);
    };
    let sessions = match running.transport {
        Transport::Http => scale.sessions,
        Transport::Stdio => scale.stdio_sessions,
    };
    let client = endpoint.client();
    // whatever is there once is there
    let first = client.initialize().await?;
    let before = Pages::settled(pid).await?;
    let mut begun = Vec::new();
    for _ in 0..sessions {
        begun.push(client.initialize().await?);
    }
    let with_sessions = Pages::settled(pid).await?;
    let streams = begun.iter().map(|session| async {
        let stream = session.send(Method::GET).await?;
        ensure!(stream.status().is_success(), "a stream: {}", stream.status());
        anyhow::Ok(stream)
    });
    let streams = try_join_all(streams).await?;
    let with_streams = Pages::settled(pid).await?;
    drop(streams);
    for session in begun.iter().chain([&first]) {
        let ended = session.send(Method::DELETE).await?;
        ensure!(ended.status().is_success(), "a session does not end: {}", ended.status());
    }
    let each =
        |difference: f64| difference / f64::from(u32::try_from(sessions).unwrap_or(u32::MAX));
    let held = Held {
        session: each(with_sessions.way - before.way),
        stream: each(with_streams.way - with_sessions.way),
        servers: each(with_sessions.servers - before.servers),
    };
    let (transport, way) = (running.transport, running.way);
    Ok(Some(Idle { transport, way, held, before: before.way, sessions }))
}

impl Pages {
    /// Of a process and all that descend from it, once what was started is up and what was done is done.
    async fn settled(pid: u32) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let mut last = Self::of(pid)?;
        loop {
            sleep(BETWEEN_LOOKS).await;
            let now = Self::of(pid)?;
            if now == last {
                return Ok(now);
            }
            ensure!(begun.elapsed() < SETTLE_LIMIT, "its memory keeps changing: {last:?}, {now:?}");
            last = now;
        }
    }

    /// Of a process and all that descend from it.
    fn of(pid: u32) -> anyhow::Result<Self> {
        let mut pages = Self { way: 0.0, servers: 0.0 };
        pages.add(pid, &footprint::memory(pid)?)?;
        for child in processes::descendants(pid) {
            // one that has ended meanwhile holds nothing
            if let Ok(held) = footprint::memory(child.pid) {
                pages.add(child.pid, &held)?;
            }
        }
        Ok(pages)
    }

    fn add(&mut self, pid: u32, held: &Memory) -> anyhow::Result<()> {
        let program = fs::read_link(format!("/proc/{pid}/exe"));
        let is_server =
            program.is_ok_and(|path| path.file_name() == Path::new(PROGRAM).file_name());
        let kib = u32::try_from(held.anonymous / 1024).context("a process of terabytes")?;
        *if is_server { &mut self.servers } else { &mut self.way } += f64::from(kib) * 1024.0;
        Ok(())
    }
}
