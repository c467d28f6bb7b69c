//! Loads the programs and says what the verifier says: the quickest question to ask a new kernel.
//!
//! `load [setattr dentry argument: 0 before 6.0, else 1]`
#![allow(clippy::print_stdout)]

use std::mem::MaybeUninit;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use mooring_bpf::MooringSkelBuilder;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut storage = MaybeUninit::uninit();
    let mut builder = MooringSkelBuilder::default();
    builder.obj_builder.debug(std::env::var_os("DEBUG").is_some());
    let mut open = builder.open(&mut storage)?;
    if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
        rodata.setattr_dentry_arg = std::env::args().nth(1).map_or(Ok(1), |argument| argument.parse())?;
    }
    let _loaded = open.load()?;
    println!("loaded");
    Ok(())
}
