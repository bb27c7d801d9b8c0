//! The official clients that negotiate, at a server that knows sessions alone: each finds its way to one.

use super::CLASS;
use anyhow::ensure;
use patchbay_tests::{
    clients::{Asked, McpProgram},
    controller::{ControllerConfig, api_key, stdio_documents},
    repository::made_by,
};
use serde_json::json;

const NEGOTIATING: [McpProgram; 4] = [
    McpProgram::PythonAuto,
    McpProgram::FastMcp,
    McpProgram::ClientAuto,
    McpProgram::InspectorAuto,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_official_client_that_negotiates_begins_a_session_where_the_server_knows_nothing_else()
-> anyhow::Result<()> {
    const SERVER: &str = "@modelcontextprotocol/server-everything";
    let packages = made_by("node-env", &["everything"]).await?;
    let node = std::fs::canonicalize(packages.join("node"))?;
    let program = packages.join(format!("node_modules/{SERVER}/dist/index.js"));
    let class = json!({
        "apiVersion": "patchbay.dev/v1alpha1", "kind": "WorkerClass",
        "metadata": { "name": CLASS },
        "spec": {
            "path": format!("/{CLASS}"),
            "image": "registry.example/server:1",
            "command": [node, program, "stdio"],
            "transport": "stdio",
            "warm": 1,
            "resources": { "memory": "1Gi" },
            "local": { "readOnlyPaths": [packages, node] },
        },
    });
    let mut documents = stdio_documents("fixture-server", CLASS, 1, &["alice"], "")?;
    documents[0] = class.to_string();
    let controller = ControllerConfig::new(documents).start().await?;
    let key = format!("Bearer {}", api_key("alice"));
    for program in NEGOTIATING {
        let arguments = json!({ "message": "a word" });
        let asked = Asked::call(controller.url(CLASS), ("Authorization", &key), "echo", arguments);
        let seen = program.run(&asked).await?;
        ensure!(seen.said() == "Echo: a word", "{}: {seen:?}", program.name());
        ensure!(seen.tools.iter().any(|tool| tool == "get-env"), "{}: {seen:?}", program.name());
        // it would have come to the other era with a server that knows it
        let wanted = program.protocol().map_or("", |_| "2025-11-25");
        ensure!(seen.protocol == wanted, "{}: {seen:?}", program.name());
    }
    // which this one does not
    let logs = controller.logs();
    ensure!(logs.contains("Legacy") && !logs.contains("Modern"), "{logs}");
    Ok(())
}
