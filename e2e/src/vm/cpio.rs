//! Writes cpio archives (`newc`): the initial RAM disk, and the job that a guest reads from its second disk.

use std::io::{self, Write};

const FILE: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;

/// An archive that is being written. Entries come out in the order in which they were added.
#[derive(Debug)]
pub struct Archive<W> {
    out: W,
    written: u64,
    inode: u32,
}

impl<W: Write> Archive<W> {
    /// An empty archive.
    pub fn new(out: W) -> Self {
        Self { out, written: 0, inode: 0 }
    }

    /// Adds a folder; its parents must have been added before.
    ///
    /// # Errors
    /// When the archive cannot be written.
    pub fn folder(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, FOLDER | 0o755, &[])
    }

    /// Adds a file with its permission bits.
    ///
    /// # Errors
    /// When the archive cannot be written, or `data` does not fit the format's 4 GiB.
    pub fn file(&mut self, path: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        self.entry(path, FILE | (mode & 0o7777), data)
    }

    /// Ends the archive and returns its target.
    ///
    /// # Errors
    /// When the archive cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, &[])?;
        // A disk is made of sectors: what is left of the last one would be cut off.
        self.pad(512)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let size = u32::try_from(data.len()).map_err(|_| io::Error::other("more than 4 GiB in one file"))?;
        let name = u32::try_from(path.len() + 1).map_err(|_| io::Error::other("path too long"))?;
        let links = if mode & FOLDER == FOLDER { 2 } else { 1 };
        // inode, mode, uid, gid, links, mtime, size, device (2), device node (2), length of the name, checksum
        let fields = [self.inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name, 0];
        let mut header = String::from("070701");
        for field in fields {
            use std::fmt::Write as _;
            write!(header, "{field:08X}").map_err(io::Error::other)?;
        }
        self.put(header.as_bytes())?;
        self.put(path.as_bytes())?;
        self.put(&[0])?;
        self.pad(4)?;
        self.put(data)?;
        self.pad(4)
    }

    fn pad(&mut self, to: u64) -> io::Result<()> {
        while !self.written.is_multiple_of(to) {
            self.put(&[0])?;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_of_one_entry() {
        let mut archive = Archive::new(Vec::new());
        archive.file("hi", 0o755, b"abcde").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[14..22], b"000081ED", "mode");
        assert_eq!(&bytes[54..62], b"00000005", "size");
        assert_eq!(&bytes[94..102], b"00000003", "length of the name with its end");
        assert_eq!(&bytes[110..113], b"hi\0");
        assert_eq!(&bytes[116..121], b"abcde", "data begins at a multiple of four");
        assert_eq!(&bytes[124..130], b"070701", "so does the next header");
        assert_eq!(bytes.len() % 512, 0);
    }

    #[test]
    fn read_back_by_cpio_where_it_is_installed() {
        let mut archive = Archive::new(Vec::new());
        archive.folder("a").unwrap();
        archive.file("a/b", 0o644, b"x").unwrap();
        let bytes = archive.finish().unwrap();
        let mut busybox = crate::vm::process::tool("busybox");
        if let Ok(listing) = crate::vm::process::output_with_input(busybox.args(["cpio", "-t"]), &bytes) {
            assert_eq!(String::from_utf8(listing).unwrap(), "a\na/b\n");
        }
    }
}
