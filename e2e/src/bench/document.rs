//! The table for people, and `docs/benchmarks.md`.

use super::bounds::{Judged, compare};
use super::{BenchError, Numbers};
use std::collections::BTreeMap;
use std::fmt::Write as _;

const HOW: &str = include_str!("how.md");

/// One line each, in columns.
#[must_use]
pub fn table(judged: &[Judged]) -> String {
    let mut text = String::new();
    for line in judged {
        let _ = writeln!(
            text,
            "{:<4} {:<84} {:>11}  bound {:<26} {}",
            verdict(line.kept, "FAIL"),
            line.what,
            line.measured,
            line.bound,
            line.from
        );
    }
    text
}

fn verdict(kept: Option<bool>, missed: &'static str) -> &'static str {
    match kept {
        Some(true) => "ok",
        Some(false) => missed,
        None => "",
    }
}

/// `docs/benchmarks.md`. `others` are further kernels, which no bound is for.
///
/// # Errors
/// If a kernel's numbers are incomplete.
pub fn document(judged: &[Judged], instructions: &Numbers, others: &[Numbers]) -> Result<String, BenchError> {
    let mut text = String::from("<!-- Written by `make bench`. -->\n# Benchmarks\n\n");
    let _ = writeln!(text, "Kernel {}.\n", instructions.kernel);
    text += "| what | bound | measured | made of | |\n|---|---|---:|---|---|\n";
    for line in judged {
        let verdict = verdict(line.kept, "**missed**");
        let _ = writeln!(text, "| {} | {} | {} | {} | {verdict} |", line.what, line.bound, line.measured, line.from);
    }
    let _ = writeln!(text, "\n{}", HOW.trim());
    text += &other_kernels(judged, others)?;
    text += &programs(instructions);
    Ok(text)
}

fn other_kernels(judged: &[Judged], others: &[Numbers]) -> Result<String, BenchError> {
    if others.is_empty() {
        return Ok(String::new());
    }
    let columns: Vec<Vec<Judged>> = others.iter().map(compare).collect::<Result<_, _>>()?;
    let mut text = String::from("\n## On other kernels\n\n| what |");
    for kernel in others {
        let _ = write!(text, " {} |", kernel.kernel);
    }
    let _ = writeln!(text, "\n|---|{}", "---:|".repeat(others.len()));
    for (row, line) in judged.iter().enumerate() {
        let cells: Vec<&str> =
            columns.iter().filter_map(|column| column.get(row)).map(|cell| cell.measured.as_str()).collect();
        if !cells.is_empty() {
            let _ = writeln!(text, "| {} | {} |", line.what, cells.join(" | "));
        }
    }
    Ok(text)
}

/// What each program adds, as measured by taking its link away.
fn programs(instructions: &Numbers) -> String {
    const COLUMNS: [(&str, &str); 4] = [
        ("untracked-service", "exec, untracked"),
        ("untracked-open-read", "open() for reading, untracked"),
        ("image-binary", "exec of an image binary"),
        ("copied-up-open-write", "open() for writing, copied up"),
    ];
    let mut rows: BTreeMap<&str, [f64; 4]> = BTreeMap::new();
    for (name, number) in &instructions.numbers {
        if let Some((what, program)) = name.split_once(" by ")
            && let Some(column) = COLUMNS.iter().position(|(key, _)| *key == what)
        {
            rows.entry(program).or_default()[column] = *number;
        }
    }
    let mut text = String::from(
        "\n## By program\n\nInstructions that are saved when one program after the other is detached.\n\n| program |",
    );
    for (_, title) in COLUMNS {
        let _ = write!(text, " {title} |");
    }
    text += "\n|---|---:|---:|---:|---:|\n";
    for (program, cells) in rows {
        let cells = cells.map(|cell| format!("{cell:.0}")).join(" | ");
        let _ = writeln!(text, "| `{program}` | {cells} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(kept: Option<bool>) -> Judged {
        Judged { what: "x", bound: "1".into(), measured: "2".into(), from: String::new(), kept }
    }

    #[test]
    fn a_missed_bound_is_seen() {
        assert!(table(&[judged(Some(false))]).starts_with("FAIL x"));
        let text = document(&[judged(Some(false)), judged(None)], &Numbers::default(), &[]).unwrap();
        assert!(text.contains("| x | 1 | 2 |  | **missed** |") && text.contains("| x | 1 | 2 |  |  |"), "{text}");
    }

    #[test]
    fn programs_have_a_row_each() {
        let numbers = [("image-binary by mmap_file", 7.0), ("untracked-service by mmap_file", 5.0), ("other", 1.0)];
        let numbers = numbers.into_iter().map(|(name, number)| (name.to_owned(), number)).collect();
        let text = programs(&Numbers { kernel: String::new(), numbers });
        assert!(text.contains("| `mmap_file` | 5 | 0 | 7 | 0 |\n"), "{text}");
    }
}
