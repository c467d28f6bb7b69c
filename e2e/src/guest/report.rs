//! One line a test, a sum at the end.

use std::time::{Duration, Instant};

/// Counts results and prints each at once, so that a hang shows where it is.
#[derive(Debug, Default)]
pub struct Report {
    passed: usize,
    failed: usize,
    excused: usize,
}

impl Report {
    /// A test that passed.
    pub(crate) fn ok(&mut self, name: &str, took: Duration) {
        self.passed += 1;
        println!("ok {name} ({:.1} s)", took.as_secs_f64());
    }

    /// A test that failed, and why; the text is put on one line.
    pub(crate) fn fail(&mut self, name: &str, why: &str) {
        self.failed += 1;
        let why: Vec<&str> = why.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        println!("FAIL {name}: {}", why.join(" | "));
    }

    /// A test that this kernel or runtime cannot run, by the table of excuses. It does not count as passed.
    pub(crate) fn excused(&mut self, name: &str, why: &str) {
        self.excused += 1;
        println!("excused {name}: {why}");
    }

    /// Runs one test and prints its line.
    pub(crate) fn test<E: std::fmt::Display>(&mut self, name: &str, body: impl FnOnce() -> Result<(), E>) {
        let start = Instant::now();
        match body() {
            Ok(()) => self.ok(name, start.elapsed()),
            Err(error) => self.fail(name, &error.to_string()),
        }
    }

    /// Prints the sum; true if there was at least one pass and no failure.
    #[must_use]
    pub fn finish(&self) -> bool {
        let excused = if self.excused > 0 { format!(", {} excused", self.excused) } else { String::new() };
        println!("{} passed, {} failed{excused}", self.passed, self.failed);
        self.failed == 0 && self.passed > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_run_is_not_a_success() {
        assert!(!Report::default().finish());
        let mut report = Report::default();
        report.excused("a", "b");
        assert!(!report.finish());
        report.ok("c", Duration::ZERO);
        assert!(report.finish());
        report.fail("d", "e");
        assert!(!report.finish());
    }
}
