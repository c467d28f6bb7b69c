//! The command line of a container runtime that is creating a container.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::Runtime;

/// What `runc create --bundle B id` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CreateCommand {
    pub(super) runtime: Runtime,
    /// The container's id: the last positional argument.
    pub(super) id: String,
    /// None: the runtime's working folder.
    pub(super) bundle: Option<PathBuf>,
    /// crun can read another file than the bundle's `config.json`.
    pub(super) config: Option<PathBuf>,
}

/// Long options of runc, crun and youki that take a value. An unknown option is taken to be a switch: at worst its value is
/// read as an id, which then fits no cgroup.
const WITH_VALUE: &[&str] = &[
    "root",
    "log",
    "log-format",
    "log-level",
    "criu",
    "rootless",
    "cgroup-manager",
    "bundle",
    "config",
    "console-socket",
    "pidfd-socket",
    "pid-file",
    "preserve-fds",
    "image-path",
    "work-path",
    "parent-path",
    "manage-cgroups-mode",
    "empty-ns",
    "lsm-profile",
    "lsm-mount-context",
    "status-fd",
];
/// Short ones. crun's `-f` is `--config`, youki's `-r` and `-l` are `--root` and `--log`.
const SHORT_WITH_VALUE: &[u8] = b"bfrl";

/// Parses `/proc/<pid>/cmdline`; None if it does not create a container.
pub(super) fn parse(cmdline: &[u8]) -> Option<CreateCommand> {
    let mut arguments = cmdline.strip_suffix(b"\0").unwrap_or(cmdline).split(|b| *b == 0);
    let runtime = runtime_named(arguments.next()?);
    let (mut bundle, mut config, mut verb, mut id) = (None, None, None, None);
    let mut only_positional = false;
    while let Some(argument) = arguments.next() {
        let option = if only_positional { None } else { option(argument) };
        match option {
            None if argument == b"--" && !only_positional => only_positional = true,
            None if verb.is_none() => {
                if !matches!(argument, b"create" | b"run" | b"restore") {
                    return None;
                }
                verb = Some(argument);
            }
            None => id = Some(argument),
            Some((name, value)) => {
                let value = match value {
                    Some(value) => Some(value),
                    None if takes_value(name) => Some(arguments.next()?),
                    None => None,
                };
                match (name, value) {
                    (b"bundle" | b"b", Some(value)) => bundle = Some(path(value)),
                    // youki and runc have no `-f`; nothing else is read from it.
                    (b"config" | b"f", Some(value)) => config = Some(path(value)),
                    _ => {}
                }
            }
        }
    }
    verb?;
    let id = String::from_utf8(id?.to_vec()).ok()?;
    Some(CreateCommand { runtime, id, bundle, config })
}

/// An option's name and the value joined to it. Go's flags may have one dash or two; crun also joins a short option with its
/// value (`-b/bundle`).
fn option(argument: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let name = match argument {
        [b'-', b'-', name @ ..] | [b'-', name @ ..] if !name.is_empty() => name,
        _ => return None,
    };
    if let Some(equals) = name.iter().position(|b| *b == b'=') {
        return Some((&name[..equals], Some(&name[equals + 1..])));
    }
    let joined = !argument.starts_with(b"--") && name.len() > 1 && matches!(name[0], b'b' | b'f') && name[1] == b'/';
    Some(if joined { (&name[..1], Some(&name[1..])) } else { (name, None) })
}

fn takes_value(name: &[u8]) -> bool {
    match name {
        [short] => SHORT_WITH_VALUE.contains(short),
        // runc's global `--rootless` takes one of true, false, auto; crun's too.
        long => WITH_VALUE.iter().any(|known| known.as_bytes() == long),
    }
}

fn path(value: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(value.to_vec()))
}

fn runtime_named(program: &[u8]) -> Runtime {
    let path = path(program);
    let name = path.file_name().map_or(&b""[..], |name| name.as_bytes());
    match name {
        b"runc" | b"docker-runc" => Runtime::Runc,
        b"crun" => Runtime::Crun,
        b"youki" => Runtime::Youki,
        _ => Runtime::Other,
    }
}

/// The bundle's `config.json`, given the runtime's working folder.
pub(super) fn config_file(command: &CreateCommand, cwd: Option<&Path>) -> Option<(PathBuf, PathBuf)> {
    let bundle = match (&command.bundle, cwd) {
        (Some(bundle), _) if bundle.is_absolute() => bundle.clone(),
        (Some(bundle), Some(cwd)) => cwd.join(bundle),
        (None, Some(cwd)) => cwd.to_owned(),
        (_, None) => return None,
    };
    let config = command.config.as_ref().map_or_else(|| bundle.join("config.json"), |config| bundle.join(config));
    Some((bundle, config))
}
