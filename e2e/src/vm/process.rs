//! Running the host's tools.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::Error;

/// Which Debian package brings a tool, for the message when it is missing.
const PACKAGES: [(&str, &str); 10] = [
    ("apt-get", "apt"),
    ("chroot", "coreutils"),
    ("go", "golang-go"),
    ("nice", "coreutils"),
    ("setsid", "util-linux"),
    ("mke2fs", "e2fsprogs"),
    ("mmdebstrap", "mmdebstrap"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("setpriv", "util-linux"),
    ("xz", "xz-utils"),
];

/// How much of a failed tool's standard error an [`Error`] carries, in bytes.
const STDERR_KEPT: usize = 4096;

/// A command with the administrator's folders in its search path: `mke2fs` lies in `/usr/sbin`, which an ordinary
/// user's `PATH` lacks.
#[must_use]
pub fn tool(program: &str) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

/// A command that sees itself as root: as it is for root, in a user namespace for anybody else.
///
/// Files that it unpacks and packs belong to root in the image that way, without any right on the host.
#[must_use]
pub fn as_root(program: &str) -> Command {
    if is_root() {
        return tool(program);
    }
    let mut command = tool("unshare");
    command.args(["--user", "--map-root-user", "--", program]);
    command
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Runs a tool to its end and returns what it wrote to standard output.
///
/// # Errors
/// [`Error::Missing`], [`Error::Start`] or [`Error::Failed`], which carries the tool's own words.
pub fn output(command: &mut Command) -> Result<Vec<u8>, Error> {
    finish(command, None)
}

/// As [`output`], with `input` on the tool's standard input.
///
/// # Errors
/// As [`output`].
pub fn output_with_input(command: &mut Command, input: &[u8]) -> Result<Vec<u8>, Error> {
    finish(command, Some(input))
}

fn finish(command: &mut Command, input: Option<&[u8]>) -> Result<Vec<u8>, Error> {
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|source| not_started(command, source))?;
    let pipe = child.stdin.take();
    let done = std::thread::scope(|scope| {
        if let (Some(mut pipe), Some(input)) = (pipe, input) {
            // A tool that stops reading early says why in its exit status.
            scope.spawn(move || pipe.write_all(input).is_ok());
        }
        child.wait_with_output()
    })
    .map_err(|source| not_started(command, source))?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    let kept = done.stderr.len().saturating_sub(STDERR_KEPT);
    Err(Error::Failed {
        command: line(command),
        status: done.status,
        stderr: String::from_utf8_lossy(&done.stderr[kept..]).into_owned(),
    })
}

/// The error for a command that could not be started.
#[must_use]
pub fn not_started(command: &Command, source: std::io::Error) -> Error {
    let program = command.get_program().to_string_lossy().into_owned();
    if source.kind() == std::io::ErrorKind::NotFound {
        let package =
            PACKAGES.iter().find(|(known, _)| *known == program).map_or(program.as_str(), |(_, package)| package);
        return Error::Missing { package: package.to_owned(), program };
    }
    Error::Start { command: line(command), source }
}

fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy()));
    words.join(" ")
}

/// The SHA-256 of `data`, in hexadecimal.
///
/// # Errors
/// As [`output`].
pub fn sha256(data: &[u8]) -> Result<String, Error> {
    let out = output_with_input(&mut tool("sha256sum"), data)?;
    Ok(String::from_utf8_lossy(&out).split_whitespace().next().unwrap_or_default().to_owned())
}

/// The rows and columns of the terminal that this process was started from, if any.
#[must_use]
pub fn terminal_size() -> Option<(u16, u16)> {
    let shown = tool("stty").arg("size").stdin(Stdio::inherit()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    let mut numbers = text.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?)).filter(|(rows, columns)| *rows > 0 && *columns > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_tool_is_quoted() {
        let error = output(tool("sh").args(["-c", "echo no room >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("no room") && error.contains("exit status: 3"), "{error}");
    }

    #[test]
    fn a_missing_tool_names_its_package() {
        let error = not_started(&tool("mke2fs"), std::io::ErrorKind::NotFound.into()).to_string();
        assert_eq!(error, "`mke2fs` is not installed: apt-get install e2fsprogs");
    }

    #[test]
    fn sha256_is_the_standard_one() {
        assert_eq!(sha256(b"abc").unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
