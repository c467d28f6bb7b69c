//! Measurements inside a guest. Each is a name and a number, written as one JSON object; `crate::bench` knows their bounds.

mod footprint;
mod instructions;
mod responses;

use super::context::Context;
use super::error::{HarnessError, OnFile, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Bench {
    /// Instructions an exec and an open; in a guest that counts them.
    Instructions,
    /// Memory of the enforcer beside 50 containers, and the time that it takes to start; in a usual guest.
    Footprint,
    /// How long it takes to kill a container; in a usual guest.
    Responses,
    /// The same, in a guest that counts instructions.
    CountedResponses,
}

/// What was measured, by name.
#[derive(Debug, Default)]
struct Numbers(BTreeMap<String, f64>);

impl Numbers {
    fn put(&mut self, name: impl Into<String>, number: u64) {
        let name = name.into();
        println!("{name} {number}");
        // Far below 2^53.
        #[allow(clippy::cast_precision_loss)]
        self.0.insert(name, number as f64);
    }
}

/// Measures and writes the numbers to `out`. `program` is a static program that ends at once; `by_program` is for the enforcer's.
///
/// # Errors
/// When something cannot be measured, or is not as it has to be for the number to mean anything.
pub fn bench(what: Bench, context: &Context, program: &Path, by_program: bool, out: &Path) -> Result<()> {
    let mut numbers = Numbers::default();
    match what {
        Bench::Instructions => instructions::measure(context, program, by_program, &mut numbers)?,
        Bench::Footprint => footprint::measure(context, &mut numbers)?,
        Bench::Responses => responses::measure(context, "clocked", &mut numbers)?,
        Bench::CountedResponses => responses::measure(context, "counted", &mut numbers)?,
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").on("read", "/proc/sys/kernel/osrelease")?;
    let text = serde_json::json!({"kernel": release.trim(), "numbers": numbers.0}).to_string();
    fs::write(out, text).on("write", out)
}

fn wrong(why: impl Into<String>) -> HarnessError {
    HarnessError::Wrong(why.into())
}
