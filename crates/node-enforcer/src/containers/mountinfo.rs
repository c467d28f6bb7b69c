//! The kernel's mount table as `/proc/<pid>/mountinfo` prints it.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::{ContainerError, files};

/// One line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// The mount's id; unique while it is mounted.
    pub id: u64,
    /// The superblock's `s_dev`: major in the upper 12 bits, minor in the lower 20.
    pub dev: u32,
    /// Which folder or file of the filesystem is mounted.
    pub root: PathBuf,
    /// Where, as the process that was asked sees it.
    pub mount_point: PathBuf,
    /// The filesystem's type.
    pub fs_type: String,
    super_options: Vec<u8>,
}

impl MountEntry {
    /// Parses a line without its newline; None if it is not one.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|b| *b == b' ').filter(|f| !f.is_empty());
        let id = number(fields.next()?)?;
        let _parent = fields.next()?;
        let dev = device(fields.next()?)?;
        let root = path(fields.next()?);
        let mount_point = path(fields.next()?);
        let _options = fields.next()?;
        // Any number of optional fields (shared:1 master:2 …) ends with a dash.
        fields.find(|field| *field == b"-")?;
        let fs_type = String::from_utf8_lossy(fields.next()?).into_owned();
        let _source = fields.next();
        let super_options = fields.next().unwrap_or_default().to_vec();
        Some(Self { id, dev, root, mount_point, fs_type, super_options })
    }

    /// The overlay's upper folder.
    #[must_use]
    pub fn upper_dir(&self) -> Option<PathBuf> {
        self.options("upperdir").next().map(path)
    }

    /// The overlay's lower folders, uppermost first.
    #[must_use]
    pub fn lower_dirs(&self) -> Vec<PathBuf> {
        let mut dirs: Vec<PathBuf> =
            self.options("lowerdir").flat_map(|value| split_layers(&unescape(value))).collect();
        // Mounted through fsconfig, one option per layer (6.7 and later).
        dirs.extend(self.options("lowerdir+").map(path));
        dirs.extend(self.options("datadir+").map(path));
        dirs
    }

    /// Whether the superblock has an option without a value.
    #[must_use]
    pub fn has_option(&self, name: &str) -> bool {
        self.super_options.split(|b| *b == b',').any(|option| option == name.as_bytes())
    }

    /// Values of a superblock option. A comma inside a value is printed as `\054`.
    fn options<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.super_options
            .split(|b| *b == b',')
            .filter_map(move |option| option.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")))
    }
}

/// The mounts that the process with this `/proc` folder (`/proc/self`, `/proc/1234`) sees, one at a time: the table of
/// a busy node is long, and only a few lines are wanted.
///
/// # Errors
/// [`ContainerError::Unreadable`]. A process that is gone has no mounts.
pub fn mounts_of(process: &Path) -> Result<impl Iterator<Item = MountEntry> + use<>, ContainerError> {
    let table = process.join("mountinfo");
    let reader = files::open(&table)?.map(|file| BufReader::with_capacity(16 << 10, file));
    Ok(reader.into_iter().flat_map(lines).filter_map(|line| MountEntry::parse(&line)))
}

fn lines(mut reader: impl BufRead) -> impl Iterator<Item = Vec<u8>> {
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        match read_line(&mut reader, &mut line) {
            Ok(true) => Some(line),
            Ok(false) | Err(_) => None,
        }
    })
}

fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    let read = reader.read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(read > 0)
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn device(field: &[u8]) -> Option<u32> {
    let (major, minor) = std::str::from_utf8(field).ok()?.split_once(':')?;
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    (major < 1 << 12 && minor < 1 << 20).then_some(major << 20 | minor)
}

fn path(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(field)))
}

/// Undoes the kernel's `\ooo`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|d| first == b'\\' && d.iter().all(|b| matches!(b, b'0'..=b'7')));
        if let Some(digits) = octal {
            let value = digits.iter().fold(0_u32, |value, digit| value << 3 | u32::from(digit - b'0'));
            bytes.push(u8::try_from(value & 0xff).unwrap_or_default());
            rest = &tail[3..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    bytes
}

/// Splits `lowerdir` at colons; overlayfs escapes a colon or backslash in a name with a backslash, and `::` begins the
/// data-only layers.
fn split_layers(value: &[u8]) -> Vec<PathBuf> {
    let mut layers = vec![Vec::new()];
    let mut bytes = value.iter();
    while let Some(byte) = bytes.next() {
        let literal = match byte {
            b':' => None,
            b'\\' => bytes.next(),
            byte => Some(byte),
        };
        match (literal, layers.last_mut()) {
            (Some(byte), Some(layer)) => layer.push(*byte),
            _ => layers.push(Vec::new()),
        }
    }
    layers.retain(|layer| !layer.is_empty());
    layers.into_iter().map(|layer| PathBuf::from(OsString::from_vec(layer))).collect()
}
