//! What a class says of its server's tools.
//!
//! The comments on fields are what `kubectl explain` shows: they speak to users. This module must not know how tools are
//! judged.

use crate::{bounds, rules};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which tools users may see and call. The worker judges every call before its MCP server sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Tools {
    /// Names of the only tools that are offered, at most 256, each of 1 to 128 visible ASCII
    /// characters. Default: all that are not denied, and none that the profile withholds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = bounds::TOOLS),
        extend("items" = rules::worker_class::word(bounds::TOOL))
    )]
    pub allow: Option<Vec<String>>,
    /// Names of tools that are never offered, in whichever case they are written, at most 256,
    /// each of 1 to 128 visible ASCII characters. It wins over `allow`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = bounds::TOOLS),
        extend("items" = rules::worker_class::word(bounds::TOOL))
    )]
    pub deny: Option<Vec<String>>,
    /// By tool, the permissions that the claims of an enhanced token have to have, such as
    /// `s3:GetObject`: at most 32 tools with 8 each, of 1 to 64 visible ASCII characters. A tool
    /// that is listed with none needs none.
    /// Users whose tokens have no such claims are not asked for any. Default: what the profile
    /// knows of its server's tools; for `profile: generic`, none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend(
        "maxProperties" = bounds::TOOL_RULES,
        "additionalProperties" = rules::worker_class::words(bounds::TOOL_NEEDS, bounds::TOOL_NEED),
        "x-kubernetes-validations" = rules::worker_class::tool_names()
    ))]
    pub permissions: Option<BTreeMap<String, Vec<String>>>,
    /// By tool, the arguments that name the buckets that it acts on, by name or as
    /// `s3://bucket/key`: at most 32 tools with 8 each, of 1 to 64 visible ASCII characters. A user
    /// whose token lists buckets has to name some of theirs in each of them. Default: what the profile knows of its server's tools;
    /// for `profile: generic`, none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend(
        "maxProperties" = bounds::TOOL_RULES,
        "additionalProperties" = rules::worker_class::words(bounds::TOOL_NEEDS, bounds::TOOL_NEED),
        "x-kubernetes-validations" = rules::worker_class::tool_names()
    ))]
    pub bucket_arguments: Option<BTreeMap<String, Vec<String>>>,
    /// Whether tools that are known to may return signed URLs: whoever has one reads the object,
    /// and it holds the user's own AWS session. Default: false.
    pub signed_urls: bool,
    /// Whether the list of tools that clients see is without those that their user cannot call.
    /// Default: true.
    pub hide_denied: bool,
}

impl Default for Tools {
    fn default() -> Self {
        Self {
            allow: None,
            deny: None,
            permissions: None,
            bucket_arguments: None,
            signed_urls: false,
            hide_denied: true,
        }
    }
}
