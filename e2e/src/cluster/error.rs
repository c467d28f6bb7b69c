//! What can go wrong with a cluster.

use std::path::PathBuf;

use crate::vm;

/// An error of the cluster. Each names its object and, where there is one, the way out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tool, a file or the cache.
    #[error(transparent)]
    Rig(#[from] vm::Error),
    /// A process of the cluster ended by itself.
    #[error("{name} ended by itself; the end of {}:\n{tail}", log.display())]
    Ended {
        /// Which.
        name: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// Something did not come about in time.
    #[error("{what} did not come about within {seconds} s; the end of {}:\n{tail}", log.display())]
    Late {
        /// What was waited for.
        what: String,
        /// For how long.
        seconds: u64,
        /// Where it should have been told.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// The folder holds no cluster.
    #[error("no cluster in {}: start one with `make cluster-up`", .0.display())]
    Absent(PathBuf),
    /// The folder holds a cluster that has not been ended.
    #[error("there is a cluster in {} already: end it with `cluster down --dir {}`", .0.display(), .0.display())]
    Present(PathBuf),
    /// The folder holds other things.
    #[error("{} is neither empty nor a cluster's folder: name another with --dir", .0.display())]
    Foreign(PathBuf),
    /// There is no image to put into the cluster.
    #[error("{} is missing: make images", .0.display())]
    NoImage(PathBuf),
    /// The cluster has no such node.
    #[error("no node `{name}` in this cluster; there are: {nodes}")]
    NoNode {
        /// The name that was asked for.
        name: String,
        /// The nodes that it has.
        nodes: String,
    },
    /// A node's name that cannot be one.
    #[error("node name `{0}`: write lower-case letters, digits and `-`, at most 40")]
    NodeName(String),
    /// A file of ours could not be understood.
    #[error("{}: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// A node's answer that is none.
    #[error("node {node} broke off its answer to `{command}`:\n{output}")]
    BrokenOff {
        /// The node.
        node: String,
        /// What it was to run.
        command: String,
        /// What it said.
        output: String,
    },
    /// A command in a node failed.
    #[error("`{command}` failed on node {node} (exit status {code}):\n{output}")]
    OnNode {
        /// The node.
        node: String,
        /// What it ran.
        command: String,
        /// How it ended.
        code: u8,
        /// What it said.
        output: String,
    },
}

/// A result of the cluster.
pub type Result<T> = std::result::Result<T, Error>;
