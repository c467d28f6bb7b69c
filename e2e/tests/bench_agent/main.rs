//! What the agent does under floods, how soon an edit is in force on a node, and a new pod protected. Part of `make bench`: no part of `make test`.
#![allow(missing_docs, unreachable_pub, dead_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_precision_loss,
    clippy::missing_panics_doc
)]

mod floods;
mod node;
mod protect;
#[path = "../agent/rig.rs"]
mod rig;

use serde_json::{Map, Value, json};

/// Adds numbers to the file that `MOORING_BENCH_OUT` names, and prints them.
pub fn found(numbers: &Value) {
    println!("{numbers}");
    let Some(path) = std::env::var_os("MOORING_BENCH_OUT") else { return };
    let before: Option<Value> = std::fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str(&text).ok());
    let mut all: Map<String, Value> =
        before.and_then(|before| before["numbers"].as_object().cloned()).unwrap_or_default();
    all.extend(numbers.as_object().unwrap().clone());
    std::fs::write(path, json!({"numbers": all}).to_string()).unwrap();
}
