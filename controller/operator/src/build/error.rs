//! Why no manifest can be made of a class that is otherwise valid.

/// A class of which no pod can be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Agent and MCP server share the pod's ports.
    #[error("spec.server.port: {0} is used by the worker itself; use another one")]
    PortTaken(u16),
    /// Boot documents are read whole, and a `ConfigMap` holds one mebibyte.
    #[error("the class makes a boot document of {0} bytes, which is too long")]
    TooLong(usize),
    /// A manifest cannot be put into words.
    #[error("a manifest cannot be serialised")]
    Serialise(#[from] serde_json::Error),
}
