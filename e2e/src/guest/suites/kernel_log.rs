//! What the kernel itself had to say while the suites ran.

use crate::guest::error::{During, HarnessError, Result, ensure};
use std::collections::HashSet;
use std::process::Command;

/// What it has said so far.
pub(super) fn read() -> Result<String> {
    let output = Command::new("dmesg").output().during("run dmesg")?;
    ensure(output.status.success(), || format!("dmesg ended with {}", output.status))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Fails on a warning or a bug that the kernel has logged since it had said `before`: a node's owner reads them, too.
pub(super) fn is_clean_since(before: &str) -> Result<()> {
    // Lines have the time in them. The machine may have been up for long.
    let before: HashSet<&str> = before.lines().collect();
    let log = read()?;
    let since: String = log.lines().filter(|line| !before.contains(line)).flat_map(|line| [line, "\n"]).collect();
    match complaint(&since) {
        Some(line) => Err(HarnessError::Wrong(format!("the kernel logged: {line}"))),
        None => Ok(()),
    }
}

/// The first of them. A processor that is emulated slowly beside other work is no fault of the kernel's: soft lockups are left out.
fn complaint(log: &str) -> Option<&str> {
    log.lines().find(|line| {
        line.contains("WARNING: CPU")
            || line.contains("Oops:")
            || (line.contains("BUG:") && !line.contains("soft lockup"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_found_and_slowness_is_not_one() {
        assert!(complaint("[1.0] fine\n[2.0] WARNING: CPU: 1 PID: 120 at kernel/bpf/verifier.c:10519\n").is_some());
        assert!(complaint("[2.0] BUG: kernel NULL pointer dereference\n").is_some());
        assert_eq!(complaint("[2.0] watchdog: BUG: soft lockup - CPU#0 stuck for 22s!\n"), None);
    }
}
