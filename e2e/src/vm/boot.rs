//! What a guest boots from: its initial RAM disk, and the job on its second disk.

use std::fs::{self, File};
use std::io::BufWriter;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::Error;
use super::cpio::Archive;
use super::kernels::Cached;

/// The first stage, which finds the root image.
const FIRST_STAGE: &str = include_str!("../../guest-root/initramfs.sh");
/// The second stage, which runs the command.
const SECOND_STAGE: &str = include_str!("../../guest-root/init.sh");
/// Where the second stage looks for its job, without the first `/`.
const JOB: &str = "run/mooring";

/// A file or folder that is carried into the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// On the host.
    pub file: PathBuf,
    /// In the guest, absolute.
    pub path: String,
}

impl std::str::FromStr for Payload {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            Some((file, path)) if !file.is_empty() && path.starts_with('/') && path.len() > 1 => {
                Ok(Self { file: PathBuf::from(file), path: path.trim_end_matches('/').to_owned() })
            }
            _ => Err(Error::Payload(text.to_owned())),
        }
    }
}

/// What a guest is to do.
#[derive(Debug, Default)]
pub struct Job {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Variables of its environment, `NAME=VALUE`.
    pub environment: Vec<String>,
    /// What is carried in.
    pub payload: Vec<Payload>,
    /// Whether the guest's folder `/out` is brought back.
    pub out: bool,
    /// The rows and columns of the person's terminal, where the command is a shell for one.
    pub shell: Option<(u16, u16)>,
    /// Whether systemd, which is carried in, is the guest's process 1 and the command a service of it.
    pub systemd: bool,
}

/// Writes the initial RAM disk for `kernel`.
///
/// # Errors
/// When the cache cannot be read or the file not be written.
pub fn write_initrd(path: &Path, kernel: &Cached) -> Result<(), Error> {
    let (modules, busybox) = (kernel.modules()?, read(&kernel.busybox())?);
    let mut loaded = Vec::new();
    for module in modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy().into_owned();
        loaded.push((name, read(&module)?));
    }
    write(path, |archive| {
        for folder in ["dev", "modules", "root"] {
            archive.folder(folder)?;
        }
        archive.file("init", 0o755, FIRST_STAGE.as_bytes())?;
        archive.file("busybox", 0o755, &busybox)?;
        loaded.iter().try_for_each(|(name, module)| archive.file(&format!("modules/{name}"), 0o644, module))
    })
}

/// Writes the job's disk.
///
/// # Errors
/// When a payload cannot be read or the file not be written.
pub fn write_job(path: &Path, job: &Job) -> Result<(), Error> {
    let mut carried = Vec::new();
    for payload in &job.payload {
        gather(&payload.file, payload.path.trim_start_matches('/'), &mut carried)?;
    }
    write(path, |archive| {
        archive.file(&format!("{JOB}/init"), 0o755, SECOND_STAGE.as_bytes())?;
        archive.file(&format!("{JOB}/command"), 0o644, format!("exec {}\n", words(&job.command)).as_bytes())?;
        let environment =
            if job.environment.is_empty() { String::new() } else { format!("export {}\n", words(&job.environment)) };
        archive.file(&format!("{JOB}/environment"), 0o644, environment.as_bytes())?;
        if let Some((rows, columns)) = job.shell {
            archive.file(&format!("{JOB}/shell"), 0o644, format!("{rows} {columns}\n").as_bytes())?;
        }
        if job.systemd {
            archive.file(&format!("{JOB}/systemd"), 0o644, &[])?;
        }
        if job.out {
            archive.file(&format!("{JOB}/out"), 0o644, &[])?;
        }
        for (file, inside) in &carried {
            let mode = fs::metadata(file)?.permissions().mode();
            archive.file(inside, mode, &fs::read(file)?)?;
        }
        Ok(())
    })
}

/// Words of a shell command, whatever is in them.
#[must_use]
pub fn words(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
    quoted.join(" ")
}

fn gather(file: &Path, inside: &str, carried: &mut Vec<(PathBuf, String)>) -> Result<(), Error> {
    if !file.is_dir() {
        fs::metadata(file).map_err(Error::io("read the payload", file))?;
        carried.push((file.to_owned(), inside.to_owned()));
        return Ok(());
    }
    for entry in fs::read_dir(file).map_err(Error::io("read the payload", file))? {
        let entry = entry.map_err(Error::io("read the payload", file))?;
        gather(&entry.path(), &format!("{inside}/{}", entry.file_name().to_string_lossy()), carried)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(Error::io("read", path))
}

fn write(path: &Path, fill: impl Fn(&mut Archive<BufWriter<File>>) -> std::io::Result<()>) -> Result<(), Error> {
    let target = File::create(path).map_err(Error::io("create", path))?;
    let mut archive = Archive::new(BufWriter::new(target));
    fill(&mut archive).and_then(|()| archive.finish()).map(drop).map_err(Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads() {
        let payload: Payload = "target/x:/usr/bin/x".parse().unwrap();
        assert_eq!(payload, Payload { file: "target/x".into(), path: "/usr/bin/x".to_owned() });
        for wrong in ["x", "x:relative", ":/x", "x:", "x:/"] {
            let error = wrong.parse::<Payload>().unwrap_err().to_string();
            assert!(error.contains("FILE:PATH"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_command_keeps_its_words() {
        let wild = ["a b".to_owned(), String::new(), "it's \"$HOME\" `x`\n".to_owned()];
        let script = format!("printf '<%s>' {}", words(&wild));
        let printed = crate::vm::process::output(crate::vm::process::tool("sh").args(["-c", &script])).unwrap();
        assert_eq!(String::from_utf8(printed).unwrap(), "<a b><><it's \"$HOME\" `x`\n>");
    }

    #[test]
    fn a_missing_payload_is_named() {
        let payload = vec!["/nonexistent/thing:/x".parse().unwrap()];
        let job = Job { payload, ..Job::default() };
        let error = write_job(&std::env::temp_dir().join("mooring-job"), &job).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/thing"), "{error}");
    }
}
