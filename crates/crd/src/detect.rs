//! What a policy regards as a violation.
#![allow(clippy::doc_markdown)] // `kubectl explain` shows these comments as plain text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

/// What counts as a violation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rules::detect()))]
pub struct Detect {
    /// Execution of a file that the image did not bring: new or changed in the container's own layer, without a name
    /// (memfd), or on a mount that the pod does not declare.
    pub drifted_binaries: bool,

    /// Execution of any file on a volume that the pod declares, whatever it is. Where this is left out, the node's
    /// default holds, which is off unless the cluster's administrator turned it on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_binaries: Option<bool>,

    /// Executable mapping of a drifted file: a library that is preloaded or opened at run time, or a program that is
    /// given to the dynamic loader. Files on volumes count where volumeBinaries is on as well.
    pub drifted_libraries: bool,

    /// Running of a drifted script by the interpreter that the image brought. Not implemented yet: a policy that turns
    /// it on is not accepted.
    pub drifted_scripts: bool,

    /// Files that may run although they drifted. An exception holds for this policy only and never weakens another one.
    /// At most 256, each path once, 32 of them patterns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::list_of_paths)]
    pub exceptions: Vec<Exception>,

    /// Files that may never run, even where the image brought them: by their path, by the path that they had in the
    /// image, and by the name with which they are invoked. Only with actions.prevent are they stopped; without it they
    /// are reported and run. At most 256, each path once, 32 of them patterns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::list_of_paths)]
    pub prohibited_binaries: Vec<ProhibitedBinary>,

    /// Programs that may execute drifted files: what such a program itself executes is no drift to this policy. It has to
    /// be the image's own, with its content, and counts by the path that it has in the image, whatever it is called or
    /// moved to since. What it executes gains nothing, unless it is listed too. It covers execution, not
    /// driftedLibraries. At most 256, each path once, 32 of them patterns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::list_of_paths)]
    pub process_exceptions: Vec<ProcessPath>,

    /// Programs that may execute nothing, not even what the image brought: a server that never starts a shell. They count
    /// by their path and by the path that they had in the image. Only what they execute themselves is a violation
    /// (ProhibitedProcess). Only with actions.prevent is it stopped. At most 256, each path once, 32 of them patterns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = rules::list_of_paths)]
    pub prohibited_processes: Vec<ProcessPath>,
}

impl Default for Detect {
    fn default() -> Self {
        Self {
            drifted_binaries: true,
            volume_binaries: None,
            drifted_libraries: true,
            drifted_scripts: false,
            exceptions: Vec::new(),
            prohibited_binaries: Vec::new(),
            process_exceptions: Vec::new(),
            prohibited_processes: Vec::new(),
        }
    }
}

/// A file that may run although it drifted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Exception {
    /// The full path inside the container, or memfd:NAME for an anonymous file of that name; in a path '*' stands for
    /// any characters within one component and '**', a component by itself, for any number of components (/opt/app/** is
    /// all below it), at most 4 in one path. Without sha256, whoever can write to this path (or can create an anonymous
    /// file) is excepted: choose one that the workload itself cannot write. At most 255 bytes.
    #[schemars(schema_with = "rules::excepted_path")]
    pub path: String,

    /// The SHA-256 of the content that is excepted, as 64 lower-case hexadecimal digits. Not implemented yet: a policy
    /// that uses it is not accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::sha256")]
    pub sha256: Option<String>,
}

/// A file that may never run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProhibitedBinary {
    /// The full path inside the container, or a pattern as in exceptions. A program that hides behind one file with many
    /// names (busybox) is matched by the name it is invoked with too: where the path is a link in the image, by whatever
    /// folder or link; by a pattern, as the caller wrote it. An applet that is its program's argument (busybox nc) is not
    /// seen. At most 255 bytes.
    #[schemars(schema_with = "rules::prohibited_path")]
    pub path: String,
}

/// A program, by the file that its process runs: never by a name that it chose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProcessPath {
    /// The full path of the program's own file inside the container, or a pattern as in exceptions. Where the path that
    /// it is started by is a link, or goes through one, write what it leads to (/usr/bin/dash, /bin/busybox); a script's program is its
    /// interpreter. At most 255 bytes.
    #[schemars(schema_with = "rules::prohibited_path")]
    pub path: String,
}
