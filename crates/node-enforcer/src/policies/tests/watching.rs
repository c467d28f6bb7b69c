use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Scratch, policy};
use crate::policies::Watch;

/// Whether the watch reports a change within a moment.
fn reports(watch: &mut Watch, within: Duration) -> bool {
    let end = Instant::now() + within;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        let timeout = PollTimeout::try_from(left).unwrap();
        let mut fds = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, timeout).unwrap() > 0 && watch.drain().unwrap() {
            return true;
        }
    }
    false
}

fn changes(watch: &mut Watch, what: &str) {
    assert!(reports(watch, Duration::from_secs(2)), "not seen: {what}");
    settle(watch);
}

/// Waits until nothing more is reported, so that one step's events are not taken for the next one's.
fn settle(watch: &mut Watch) {
    while reports(watch, Duration::from_millis(30)) {}
}

fn quiet(watch: &mut Watch, what: &str) {
    assert!(!reports(watch, Duration::from_millis(60)), "seen: {what}");
}

fn replace(scratch: &Scratch, path: &str) {
    let new = scratch.write("new-file", policy("x"));
    fs::rename(new, scratch.at(path)).unwrap();
}

#[test]
fn a_file_is_seen_written_replaced_removed_and_back() {
    let scratch = Scratch::new();
    let file = scratch.write("dir/p.yaml", policy("a"));
    let mut watch = Watch::new(&file).unwrap();
    quiet(&mut watch, "nothing happened");
    fs::read(&file).unwrap();
    quiet(&mut watch, "it was read");
    scratch.write("dir/other.yaml", "x");
    quiet(&mut watch, "another file was written");
    fs::write(&file, policy("b")).unwrap();
    changes(&mut watch, "written in place");
    replace(&scratch, "dir/p.yaml");
    changes(&mut watch, "replaced by a rename");
    fs::write(&file, policy("c")).unwrap();
    changes(&mut watch, "written after it was replaced");
    fs::remove_file(&file).unwrap();
    changes(&mut watch, "removed");
    fs::write(&file, policy("d")).unwrap();
    changes(&mut watch, "back");
    fs::rename(scratch.at("dir"), scratch.at("away")).unwrap();
    changes(&mut watch, "its folder was renamed");
    fs::write(scratch.at("away/p.yaml"), "x").unwrap();
    quiet(&mut watch, "written where it is no more");
    scratch.write("dir/p.yaml", policy("e"));
    changes(&mut watch, "its folder is back");
    fs::write(&file, policy("f")).unwrap();
    changes(&mut watch, "written in the new folder");
}

#[test]
fn a_folders_entries_are_seen() {
    let scratch = Scratch::new();
    let folder = scratch.folder("dir");
    let mut watch = Watch::new(&folder).unwrap();
    scratch.write("dir/p.yaml", policy("a"));
    changes(&mut watch, "a new file");
    fs::write(scratch.at("dir/p.yaml"), policy("b")).unwrap();
    changes(&mut watch, "a written file");
    fs::remove_dir_all(&folder).unwrap();
    changes(&mut watch, "the folder is gone");
    scratch.write("dir/p.yaml", policy("c"));
    changes(&mut watch, "the folder is back");
    fs::write(scratch.at("dir/p.yaml"), policy("d")).unwrap();
    changes(&mut watch, "a file in the folder that is back");
}

#[test]
fn a_configmaps_swapped_link_is_seen() {
    let scratch = Scratch::new();
    scratch.write("vol/..1/p.yaml", policy("a"));
    symlink("..1", scratch.at("vol/..data")).unwrap();
    symlink("..data/p.yaml", scratch.at("vol/p.yaml")).unwrap();
    for path in ["vol", "vol/p.yaml"] {
        let mut watch = Watch::new(&scratch.at(path)).unwrap();
        for round in ["..2", "..1"] {
            scratch.write(&format!("vol/{round}/p.yaml"), policy("b"));
            settle(&mut watch);
            symlink(round, scratch.at("vol/..data_tmp")).unwrap();
            settle(&mut watch);
            fs::rename(scratch.at("vol/..data_tmp"), scratch.at("vol/..data")).unwrap();
            changes(&mut watch, path);
        }
    }
}

#[test]
fn links_to_files_elsewhere_are_followed() {
    let scratch = Scratch::new();
    let real = scratch.write("real/a.yaml", policy("a"));
    scratch.folder("dir");
    symlink(&real, scratch.at("dir/p.yaml")).unwrap();
    for path in ["dir", "dir/p.yaml", "dir/../dir/./p.yaml"] {
        let mut watch = Watch::new(&scratch.path().join(path)).unwrap();
        fs::write(&real, policy("b")).unwrap();
        changes(&mut watch, path);
        replace(&scratch, "real/a.yaml");
        changes(&mut watch, path);
    }
}

#[test]
fn a_path_that_does_not_exist_yet_is_awaited() {
    let scratch = Scratch::new();
    let mut watch = Watch::new(&scratch.at("a/b/p.yaml")).unwrap();
    scratch.folder("a");
    changes(&mut watch, "the first folder");
    scratch.folder("a/b");
    changes(&mut watch, "the second");
    scratch.write("a/b/p.yaml", policy("a"));
    changes(&mut watch, "the file");
}

#[test]
fn a_lost_queue_counts_as_a_change() {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let events: usize = limit.trim().parse().unwrap();
    if events > 100_000 {
        eprintln!("skipped: the queue holds {events} events");
        return;
    }
    let scratch = Scratch::new();
    let file = scratch.write("dir/p.yaml", policy("a"));
    let mut watch = Watch::new(&file).unwrap();
    let (a, b) = (scratch.write("dir/a", ""), scratch.at("dir/b"));
    for _ in 0..=events / 4 {
        fs::rename(&a, &b).unwrap();
        fs::rename(&b, &a).unwrap();
    }
    changes(&mut watch, "the queue overflowed, though only other files were renamed");
    fs::write(&file, "x").unwrap();
    changes(&mut watch, "written afterwards");
}

#[test]
fn loops_of_links_end() {
    let scratch = Scratch::new();
    symlink("l", scratch.at("l")).unwrap();
    let mut watch = Watch::new(&scratch.at("l")).unwrap();
    fs::remove_file(scratch.at("l")).unwrap();
    changes(&mut watch, "the link is gone");
    drop(Watch::new(Path::new("/")).unwrap());
}
