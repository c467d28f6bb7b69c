//! Compiles the kernel programs and writes their skeleton.

use std::env;
use std::path::PathBuf;

use libbpf_cargo::SkeletonBuilder;

const SOURCE: &str = "src/bpf/mooring.bpf.c";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?).join("mooring.skel.rs");
    let arch = match env::var("CARGO_CFG_TARGET_ARCH")?.as_str() {
        "x86_64" => "x86",
        "aarch64" => "arm64",
        other => return Err(format!("no kernel programs for {other}: build for x86_64 or aarch64").into()),
    };
    println!("cargo:rerun-if-changed=src/bpf");
    SkeletonBuilder::new()
        .source(SOURCE)
        .clang_args(["-Wall", "-Werror", "-mcpu=v3", &format!("-D__TARGET_ARCH_{arch}")])
        .build_and_generate(&out)?;
    Ok(())
}
