//! Payloads that try again and again.

use super::{Outcome, PayloadError, Tried};
use nix::unistd::execv;
use std::ffi::CStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One execve that must be refused.
fn refused(path: &str, number: u64) -> Outcome {
    let path = super::execute::c_string(path)?;
    let arguments: [&CStr; 1] = [c"x"];
    let Err(errno) = execv(&path, &arguments);
    if matches!(errno, nix::Error::EPERM | nix::Error::EACCES) {
        return Ok(());
    }
    Err(std::io::Error::from(errno)).tried(format!("execve number {number}"))
}

fn count(text: &str) -> Result<u64, PayloadError> {
    text.parse().map_err(|_| PayloadError::Usage("flood TIMES PATH".into()))
}

/// Calls execve on `path` `times` times without forking. The first success is the last call, and prints the token.
pub(super) fn flood(times: &str, path: &str) -> Outcome {
    let times = count(times)?;
    for number in 0..times {
        refused(path, number)?;
    }
    println!("refused {times}");
    Ok(())
}

/// Calls execve once on each of the files `1` to `files` of a folder.
pub(super) fn flood_folder(files: &str, folder: &str) -> Outcome {
    let files = count(files)?;
    for number in 1..=files {
        refused(&format!("{folder}/{number}"), number)?;
    }
    println!("refused {files}");
    Ok(())
}

fn runs(path: &str) -> bool {
    Command::new(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Every 10 ms executes `dropped`, which must never succeed, and `image`, which must never fail, until `stop` exists.
pub(super) fn oracle(dropped: &str, image: &str, stop: &str) {
    let (mut tries, mut successes, mut failures) = (0u64, 0u64, 0u64);
    while !Path::new(stop).exists() {
        tries += 1;
        successes += u64::from(runs(dropped));
        failures += u64::from(!runs(image));
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("tries {tries} successes {successes} failures {failures}");
}

/// As [`oracle`], in a tighter loop, where not even the first thing that `dropped` does, to print, may happen; and how long the longest of all
/// these executions took.
pub(super) fn timed_oracle(dropped: &str, image: &str, stop: &str) {
    let (mut tries, mut successes, mut failures, mut longest) = (0u64, 0u64, 0u64, Duration::ZERO);
    let mut run = |path: &str| {
        let begun = Instant::now();
        let output = Command::new(path).stdin(Stdio::null()).stderr(Stdio::null()).output();
        longest = longest.max(begun.elapsed());
        output.is_ok_and(|output| output.status.success() || !output.stdout.is_empty())
    };
    while !Path::new(stop).exists() {
        tries += 1;
        successes += u64::from(run(dropped));
        failures += u64::from(!run(image));
        std::thread::sleep(Duration::from_millis(2));
    }
    println!("tries {tries} successes {successes} failures {failures} longest {}", longest.as_millis());
}

/// Executes `path` `times` times, `millis` apart, first waiting once: for somebody outside who looks up this process.
pub(super) fn try_every(millis: &str, times: &str, path: &str) -> Outcome {
    let usage = || PayloadError::Usage("try-every MILLIS TIMES FILE".into());
    let pause = Duration::from_millis(millis.parse().map_err(|_| usage())?);
    let times: u32 = times.parse().map_err(|_| usage())?;
    let program = super::execute::c_string(path)?;
    let arguments: [&CStr; 1] = [c"x"];
    for _ in 0..times {
        std::thread::sleep(pause);
        let Err(errno) = execv(&program, &arguments);
        println!("{errno}");
    }
    std::thread::sleep(pause);
    Ok(())
}
