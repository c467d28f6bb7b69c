//! Progress for people, on standard error: what is being done, and how long it took.

use std::time::Instant;

/// A step that has begun. It says so at once if it is long, and its time when it is done.
#[derive(Debug)]
pub struct Step {
    name: String,
    begun: Instant,
}

impl Step {
    /// Begins a step that takes long enough to be announced.
    #[must_use]
    pub fn begin(name: impl Into<String>) -> Self {
        let name = name.into();
        eprintln!("vm: {name} ...");
        Self { name, begun: Instant::now() }
    }

    /// Ends the step.
    pub fn done(self) {
        eprintln!("vm: {} took {:.1} s", self.name, self.begun.elapsed().as_secs_f64());
    }
}

/// One line of progress.
pub fn say(line: impl AsRef<str>) {
    eprintln!("vm: {}", line.as_ref());
}
