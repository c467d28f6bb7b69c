//! Reading the kernel's console: did it panic, what did it say last.

/// What the kernel says when something is wrong with it, worst first.
const ALARMS: [&str; 8] = [
    "Kernel panic",
    "Oops:",
    "BUG:",
    "general protection fault",
    "soft lockup",
    "self-detected stall",
    "blocked for more than",
    "WARNING: ",
];

/// The worst that the kernel said, if it said anything bad.
#[must_use]
pub fn alarm(console: &str) -> Option<&str> {
    ALARMS.iter().find_map(|alarm| console.lines().find(|line| line.contains(alarm))).map(str::trim)
}

/// The last `count` lines that are not empty.
#[must_use]
pub fn tail(console: &str, count: usize) -> String {
    let lines: Vec<&str> = console.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_panic_is_found_before_what_led_to_it() {
        let console =
            "[1.0] WARNING: CPU: 0 at x\n[2.0] BUG: unable to handle\n[2.1] Kernel panic - not syncing: Fatal\n";
        assert_eq!(alarm(console), Some("[2.1] Kernel panic - not syncing: Fatal"));
        assert_eq!(alarm("[1.0] all is well\n"), None);
    }

    #[test]
    fn tail_skips_empty_lines() {
        assert_eq!(tail("a\r\n\r\nb\r\nc\r\n\n", 2), "b\nc");
        assert_eq!(tail("a", 5), "a");
    }
}
