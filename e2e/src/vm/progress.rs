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
        say(format!("{name} ..."));
        Self { name, begun: Instant::now() }
    }

    /// Ends the step.
    pub fn done(self) {
        say(format!("{} took {:.1} s", self.name, self.begun.elapsed().as_secs_f64()));
    }
}

/// One line of progress, after the program's name.
pub fn say(line: impl AsRef<str>) {
    let program = std::env::args().next().unwrap_or_default();
    let name = std::path::Path::new(&program).file_name().unwrap_or_default().to_string_lossy();
    eprintln!("{name}: {}", line.as_ref());
}
