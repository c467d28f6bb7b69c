//! Loads the programs and says what the verifier says: the quickest question to ask a new kernel. `DEBUG=1` prints its log,
//! `FMOD_RET=1` makes programs for the security functions instead of the LSM's hooks, `KILL=1` takes those for an exec's tracepoints.
#![allow(clippy::print_stdout)]

use std::mem::MaybeUninit;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use mooring_bpf::MooringSkelBuilder;
use mooring_bpf::hooks::{self, Attachment};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut storage = MaybeUninit::uninit();
    let mut builder = MooringSkelBuilder::default();
    builder.obj_builder.debug(std::env::var_os("DEBUG").is_some());
    let mut open = builder.open(&mut storage)?;
    let asked = |name| std::env::var_os(name).is_some();
    let attachment = match (asked("FMOD_RET"), asked("KILL")) {
        (_, true) => Attachment::ExecTracepoints,
        (true, false) => Attachment::SecurityFunctions,
        (false, false) => Attachment::LsmHooks,
    };
    hooks::configure(&mut open, attachment).map_err(|error| error.missing)?;
    // What the verification of each program costs (BPF_LOG_STATS).
    if std::env::var_os("DEBUG").is_some() {
        for mut program in open.open_object_mut().progs_mut() {
            program.set_log_level(4);
        }
    }
    let _loaded = open.load()?;
    println!("loaded");
    Ok(())
}
