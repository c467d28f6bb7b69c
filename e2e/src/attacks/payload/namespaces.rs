//! Executing a command as somebody else, somewhere else.

use super::{Outcome, PayloadError, Tried};
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare as unshare_flags};
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

fn command_of(words: &[&str]) -> Result<Command, PayloadError> {
    let (program, arguments) = words.split_first().ok_or_else(|| PayloadError::Usage("… COMMAND".into()))?;
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

pub(super) fn become_command(words: &[&str]) -> Outcome {
    Err(command_of(words)?.exec()).tried(format!("execute {}", words.join(" ")))
}

/// Executes `command` as user and group `uid`.
pub(super) fn as_uid(uid: &str, command: &[&str]) -> Outcome {
    let id: u32 = uid.parse().map_err(|_| PayloadError::Usage("as-uid UID COMMAND".into()))?;
    setgroups(&[]).tried("setgroups")?;
    setgid(Gid::from_raw(id)).tried("setgid")?;
    setuid(Uid::from_raw(id)).tried("setuid")?;
    become_command(command)
}

/// Where cgroups are mounted; some runtimes do not, but a container with the right to mount can.
fn cgroup_root() -> Result<String, PayloadError> {
    let usual = "/sys/fs/cgroup";
    if Path::new(usual).join("cgroup.procs").exists() {
        return Ok(usual.to_owned());
    }
    let folder = format!("/tmp/cgroup-{}", std::process::id());
    std::fs::create_dir_all(&folder).tried(format!("mkdir {folder}"))?;
    let (kind, flags) = (Some("cgroup2"), MsFlags::empty());
    nix::mount::mount(kind, folder.as_str(), kind, flags, None::<&str>).tried("mount cgroup2")?;
    Ok(folder)
}

/// Makes the cgroup `name` below the container's own, enters it and executes `command` there.
pub(super) fn in_cgroup(name: &str, command: &[&str]) -> Outcome {
    let own = std::fs::read_to_string("/proc/self/cgroup").tried("read /proc/self/cgroup")?;
    let path = own
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .ok_or_else(|| PayloadError::Unexpected("no cgroup v2 in /proc/self/cgroup".into()))?;
    let root = cgroup_root()?;
    // Without a cgroup namespace the path begins at the machine's root, whether that is mounted or only the container's own.
    let own = format!("{root}{}", path.trim_end_matches('/'));
    let mounted = if Path::new(&own).exists() { own } else { root };
    let folder = format!("{mounted}/{name}");
    std::fs::create_dir_all(&folder).tried(format!("mkdir {folder}"))?;
    let procs = format!("{folder}/cgroup.procs");
    std::fs::write(&procs, "0").tried(format!("write {procs}"))?;
    become_command(command)
}

/// Executes `command` in a folder whose path is longer than `PATH_MAX`; makes it if it is not there.
pub(super) fn in_deep_folder(command: &[&str]) -> Outcome {
    let name = "n".repeat(200);
    for _ in 0..25 {
        if !Path::new(&name).exists() {
            std::fs::create_dir(&name).tried("mkdir")?;
        }
        std::env::set_current_dir(&name).tried("chdir")?;
    }
    become_command(command)
}

/// Leaves namespaces named by the letters of `flags` (m mount, p pid, U user, n net, i ipc, u uts, C cgroup) and executes `command`.
pub(super) fn unshare(flags: &str, command: &[&str]) -> Outcome {
    let mut set = CloneFlags::empty();
    for letter in flags.chars() {
        set |= match letter {
            'm' => CloneFlags::CLONE_NEWNS,
            'p' => CloneFlags::CLONE_NEWPID,
            'U' => CloneFlags::CLONE_NEWUSER,
            'n' => CloneFlags::CLONE_NEWNET,
            'i' => CloneFlags::CLONE_NEWIPC,
            'u' => CloneFlags::CLONE_NEWUTS,
            'C' => CloneFlags::CLONE_NEWCGROUP,
            _ => return Err(PayloadError::Usage("unshare [mpUniuC] COMMAND".into())),
        };
    }
    let (uid, gid) = (Uid::effective(), Gid::effective());
    unshare_flags(set).tried(format!("unshare {flags}"))?;
    if set.contains(CloneFlags::CLONE_NEWUSER) {
        std::fs::write("/proc/self/setgroups", "deny").tried("write setgroups")?;
        std::fs::write("/proc/self/uid_map", format!("0 {uid} 1")).tried("write uid_map")?;
        std::fs::write("/proc/self/gid_map", format!("0 {gid} 1")).tried("write gid_map")?;
    }
    if !set.contains(CloneFlags::CLONE_NEWPID) {
        return become_command(command);
    }
    // Only children are in the new pid namespace.
    let status = command_of(command)?.status().tried(format!("execute {}", command.join(" ")))?;
    if status.success() {
        return Ok(());
    }
    Err(PayloadError::Unexpected(format!("the command: {status}")))
}
