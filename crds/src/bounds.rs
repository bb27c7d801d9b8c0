//! How large the parts of an object may be: characters of a text, elements of a list, entries of a
//! map.
//!
//! Everything that users write is bounded, so that an object fits into the 1.5 MiB that etcd
//! takes, and so that an API server can say beforehand what its rules cost. Bounds that are part
//! of what a value means (`idleTimeout`, `memory`) are `crate::validate`'s. This module must not
//! know which field has which bound.

/// A DNS label (RFC 1123): the name of a class or a worker's pod's UID.
pub const LABEL: u32 = 63;
/// A DNS name (RFC 1123): a host, or the name of an object.
pub const NAME: u32 = 253;
/// An origin: `https://`, a host, `:` and a port.
pub const ORIGIN: u32 = 8 + NAME + 6;
/// A URL.
pub const URL: u32 = 2048;
/// A path of a URL.
pub const PATH: u32 = 1024;
/// An issuer or a subject.
pub const IDENTITY: u32 = 1024;
/// `sha256:` and 64 hexadecimal characters.
pub const DIGEST: u32 = 7 + 64;
/// The public part of an API key.
pub const KEY_ID: u32 = 32;
/// A duration: four units with nine digits each.
pub const DURATION: u32 = 4 * 10;
/// A quantity: 18 digits, 18 decimals, and a unit.
pub const QUANTITY: u32 = 18 + 1 + 18 + 2;
/// An address range.
pub const CIDR: u32 = 45 + 4;
/// A word of somebody else's: the name of a claim, a region.
pub const WORD: u32 = 256;
/// The ARN of an IAM role: partition, account, path and name at their longest are shorter.
pub const ROLE_ARN: u32 = 640;
/// Roles by what is said of a user.
pub const ROLES: u32 = 32;
/// Patterns of roles.
pub const ROLE_PATTERNS: u32 = 16;
/// An external id, as STS bounds it.
pub const EXTERNAL_ID: u32 = 1224;
/// Session tags of a class: STS takes 50, and some are Patchbay's.
pub const TAGS: u32 = 20;
/// The value of a tag, as AWS bounds it.
pub const TAG_VALUE: u32 = 256;
/// PEM certificates: about forty of them.
pub const CA_BUNDLE: u32 = 64 * 1024;

/// An image's reference.
pub const IMAGE: u32 = 1024;
/// Elements of a command line.
pub const COMMAND: u32 = 64;
/// One element of a command line.
pub const ARGUMENT: u32 = 2048;
/// Entries of an environment.
pub const ENV: u32 = 100;
/// One value of an environment.
pub const ENV_VALUE: u32 = 4096;
/// Entries of an environment that hold credentials.
pub const CREDENTIAL_ENV: u32 = 16;
/// Files that hold credentials.
pub const CREDENTIAL_FILES: u32 = 16;
/// The template of one such file.
pub const TEMPLATE: u32 = 16 * 1024;
/// Hosts or address ranges that an MCP server may connect to.
pub const EGRESS: u32 = 256;
/// Labels of a node, or taints.
pub const PLACEMENT: u32 = 32;
/// Names of tools.
pub const TOOLS: u32 = 256;
/// One name of a tool, as MCP bounds it.
pub const TOOL: u32 = 128;
/// Tools that more is said of than their names.
pub const TOOL_RULES: u32 = 32;
/// Permissions or arguments of one tool.
pub const TOOL_NEEDS: u32 = 8;
/// The name of a permission or an argument.
pub const TOOL_NEED: u32 = 64;
/// Paths of a machine.
pub const READ_ONLY_PATHS: u32 = 64;

/// Classes that one provider leads to.
pub const CLASSES: u32 = 256;
/// Audiences, algorithms or claims of a token.
pub const CLAIMS: u32 = 32;
/// Permission codes, or names of roles, of one catalog's tokens.
pub const CODES: u32 = 64;
/// Buckets of one role, or permissions of one level.
pub const ROLE_ENTRIES: u32 = 256;
/// API keys of one provider.
pub const API_KEYS: u32 = 1000;

/// Conditions of an object.
pub const CONDITIONS: u32 = 16;
/// A condition's type or reason, as Kubernetes bounds a type.
pub const CONDITION_WORD: u32 = 316;
/// A condition's message.
pub const CONDITION_MESSAGE: u32 = 4 * 1024;
