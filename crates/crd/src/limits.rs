//! How much one object may hold. The CRD states each of these, so that the API server refuses what is beyond and can
//! bound the cost of the CEL rules.

/// Entries in each list of `detect`: `exceptions`, `prohibitedBinaries`, `processExceptions`, `prohibitedProcesses`.
pub const MAX_LIST_PATHS: u64 = 256;
/// Of these, patterns: paths with `*` in them.
pub const MAX_LIST_PATTERNS: u64 = 32;
/// Each `*` and each `**` of one pattern.
pub const MAX_WILDCARDS: usize = 4;
/// Bytes in a path of a list. The kernel's table of paths has keys of 256 bytes, at least one of them a NUL.
pub const MAX_PATH_BYTES: u64 = 255;
/// Entries in `scope.containers`, and in `scope.images`.
pub const MAX_SCOPE_NAMES: u64 = 64;
/// Bytes in a container's name (an RFC 1123 label).
pub const MAX_CONTAINER_NAME: u64 = 63;
/// Bytes in an image pattern: a registry's name (255), a repository (255) and a tag or digest (128).
pub const MAX_IMAGE_PATTERN: u64 = 640;
/// Entries in one selector's `matchLabels`, in its `matchExpressions`, and in one expression's `values`.
pub const MAX_SELECTOR_TERMS: u64 = 32;
/// Bytes in a label's key: a DNS name (253), a slash and a name (63).
pub const MAX_LABEL_KEY: u64 = 317;
/// Bytes in a label's value.
pub const MAX_LABEL_VALUE: u64 = 63;
/// Characters in `description`.
pub const MAX_DESCRIPTION: u64 = 1024;
/// Characters in `runbookURL`.
pub const MAX_RUNBOOK_URL: u64 = 2048;
/// Entries in `actions.notify`.
pub const MAX_NOTIFY: u64 = 16;
/// Bytes in the name of an object (an RFC 1123 subdomain).
pub const MAX_OBJECT_NAME: u64 = 253;
/// Seconds of a capture, before the event and after it, each.
pub const MAX_CAPTURE_SECONDS: u32 = 120;

/// Bytes of a file's path in an event: the kernel's `PATH_MAX`.
pub const MAX_EVENT_PATH: u64 = 4096;
/// Bytes of a command line in an event.
pub const MAX_COMMAND_LINE: u64 = 4096;
/// Characters of the name that a process gave itself; the kernel keeps 15 bytes.
pub const MAX_PROCESS_NAME: u64 = 64;
/// A process id; the kernel's own limit is lower (4194304).
pub const MAX_PID: u32 = 2_147_483_647;
/// A user id.
pub const MAX_UID: u32 = 4_294_967_295;
/// Characters of a uid of the API server, and of a container's id.
pub const MAX_UID_TEXT: u64 = 128;
/// Characters of an image reference in an event.
pub const MAX_IMAGE: u64 = 1024;
/// Characters of a volume's kind.
pub const MAX_VOLUME_KIND: u64 = 63;
/// Characters of a sentence in a status: why something is as it is, and what to do.
pub const MAX_MESSAGE: u64 = 1024;
/// Entries in `DriftEvent.status.heldBack`.
pub const MAX_HELD_BACK: u64 = 4;
/// Entries in `DriftNode.status.switches`.
pub const MAX_SWITCHES: u64 = 8;
/// Characters of a version, a digest or a resource version.
pub const MAX_VERSION: u64 = 128;
/// Conditions of one object.
pub const MAX_CONDITIONS: u64 = 8;
/// Policies on one node: the slots of its kernel tables.
pub const MAX_NODE_POLICIES: u64 = 64;
/// Namespaces that a `DriftEventBreaker` names; beyond them it is every one.
pub const MAX_BREAKER_NAMESPACES: u64 = 256;
/// Entries in `DriftNode.status.features`.
pub const MAX_FEATURES: u64 = 32;
/// Nodes that a policy's status names.
pub const MAX_PROBLEM_NODES: u64 = 10;
/// Characters of an email address.
pub const MAX_EMAIL: u64 = 254;
/// Recipients of an email channel.
pub const MAX_RECIPIENTS: u64 = 16;
