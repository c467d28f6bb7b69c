//! The attack matrix, as guests run it.

use mooring_e2e::testing::repository;

use crate::rig::{Rig, binary};

/// As many as must have passed: what a backend cannot see is excused.
const PASSED: usize = 150;

fn matrix_under(backend: &str) {
    let mut rig = Rig::new();
    let images = rig.guest_root().join("images");
    let mut guest = rig.with_libraries(repository("target/x86_64-unknown-linux-gnu/debug/guest"));
    guest.args(["run", "matrix", "--runtime", "runc", "--runtime-program"]).arg(rig.runc_program());
    guest.arg("--enforcer").arg(binary()).args(["--backend", backend, "--unknown-containers", "Allow"]);
    guest.arg("--pin-dir").arg(rig.pins()).arg("--images").arg(images).arg("--work").arg(rig.folder("matrix"));
    // Its logs go with the rig.
    let output = guest.env("TMPDIR", rig.folder("tmp")).output().unwrap();

    let [said, errors] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    let failed: Vec<&str> = said.lines().filter(|line| line.starts_with("FAIL ")).collect();
    let sum = said.lines().last().unwrap_or_default();
    println!("{backend}: {sum}");
    assert!(output.status.success(), "{}: {sum}\n{}\n{errors}", output.status, failed.join("\n"));
    let passed = sum.split(' ').next().and_then(|number| number.parse().ok());
    assert!(passed.is_some_and(|passed: usize| passed >= PASSED), "{sum}");
}

#[test]
#[ignore = "needs root, and packages from Debian's archive"]
fn attack_matrix_under_fanotify() {
    matrix_under("Fanotify");
}

#[test]
#[ignore = "needs root, and packages from Debian's archive"]
fn attack_matrix_under_kill() {
    matrix_under("Kill");
}
