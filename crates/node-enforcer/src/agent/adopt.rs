//! What a container did before the agent knew it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::layers::file_in;
use crate::containers::Container;

/// Entries of an upper folder that are looked at when its container is adopted.
const ENTRIES_MAX: usize = 20_000;

/// Executable files and libraries that have been copied up and are in the image under the same name.
///
/// Comparing them before they are used spares an honest container a refusal: nobody saw how they were written.
#[must_use]
pub(super) fn copied_up_programs(container: &Container) -> Vec<PathBuf> {
    let Some(upper) = &container.root.upper_dir else { return Vec::new() };
    let mut found = Vec::new();
    let mut folders = vec![upper.clone()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            seen += 1;
            if seen > ENTRIES_MAX {
                return found;
            }
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if metadata.is_file() && is_program(&entry.path(), metadata.permissions().mode()) {
                let path = entry.path();
                let Ok(relative) = path.strip_prefix(upper) else { continue };
                if file_in(&container.root.lower_dirs, relative).is_some() {
                    found.push(Path::new("/").join(relative));
                }
            }
        }
    }
    found
}

fn is_program(path: &Path, mode: u32) -> bool {
    mode & 0o111 != 0 || path.file_name().is_some_and(|name| name.to_string_lossy().contains(".so"))
}

/// When a container started, in seconds of the epoch: its first process's start, or now for one that has none yet.
#[must_use]
pub(super) fn started(container: &Container) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    container.init_pid.and_then(process_start).unwrap_or(now)
}

fn process_start(pid: u32) -> Option<u64> {
    // The folder is made with the process's inode on first sight, so the clock ticks in `stat` are asked instead.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let per_second = u64::try_from(nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??).ok()?;
    let boot: u64 =
        fs::read_to_string("/proc/stat").ok()?.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
    Some(boot + ticks / per_second.max(1))
}
