//! What the kernel refuses to a program in the MCP server's container: the calls that the local sandbox's filter
//! knows, where the runtime's own filter and the want of capabilities have to stop them. Those that reach for other
//! processes are tried on them where a server attacks (`cluster_inside`). `io_uring` and vsock are not asked for:
//! whether they are refused is the runtime's choice, and not all of them do.

use super::made;
use anyhow::{Context, ensure};
use patchbay_operator::build::SERVER;
use patchbay_tests::pods::roots;
use serde_json::Value;

/// Asks the kernel.
const SCRIPT: &str = include_str!("../../python/system_calls.py");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_would_break_out_are_refused() -> anyhow::Result<()> {
    let (stage, _world, class) = made("calls").await?;
    let worker = stage.worker(&class).await?;
    let container = format!("--container={SERVER}");
    let command = ["exec", &worker.name, &container, "--", roots::QUILT_PYTHON, "-c", SCRIPT];
    let told: Value = serde_json::from_str(&stage.place.kubectl(&command).await?)?;
    let calls = told["calls"].as_object().context("no calls")?;
    ensure!(calls.len() == 12, "{calls:?}");
    for (name, errno) in calls {
        ensure!(["EPERM", "ENOSYS"].iter().any(|refusal| errno == refusal), "{name}: {errno}");
    }
    let nodes = told["nodes"].as_object().context("no nodes")?;
    ensure!(nodes.len() == 6 && nodes.values().all(|errno| errno == "EPERM"), "{nodes:?}");
    let sockets = &told["sockets"];
    for family in ["unix", "inet", "inet6"] {
        ensure!(sockets[family].is_null(), "{family}: {sockets}");
    }
    for family in ["packet", "alg"] {
        ensure!(sockets[family].is_string(), "{family}: {sockets}");
    }
    stage.place.end().await
}
