//! Runs commands on a node, as root and outside of any container, through a port of this machine's loopback.
//!
//! The other end is `guest-root/exec.sh`, which wants the node's secret first.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{Error, Result};
use super::node::Node;
use crate::vm::{self, boot};

/// How long a command may be silent.
const SILENCE: Duration = Duration::from_mins(10);

/// How a command on a node ended, with both of its streams in one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status.
    pub code: u8,
    /// What it printed.
    pub output: String,
}

impl Node {
    /// Runs a command as root on the node, outside of any container.
    ///
    /// # Errors
    /// When the node cannot be reached or breaks off; a command that fails is no error.
    pub fn exec(&self, command: &[&str]) -> Result<Ended> {
        self.exec_with(command, &mut std::io::empty(), &mut std::io::sink())
    }

    /// As [`exec`](Self::exec), and a command that fails is an error. Returns what it printed.
    ///
    /// # Errors
    /// [`Error::OnNode`], or as [`exec`](Self::exec).
    pub fn run(&self, command: &[&str]) -> Result<String> {
        self.succeeded(command, self.exec(command)?)
    }

    /// Imports an image from a tar file, an OCI archive or docker's; pods find it under the name in it. The node need not be Ready yet.
    ///
    /// # Errors
    /// When the file cannot be read, or containerd refuses it.
    pub fn load(&self, image: &Path) -> Result<String> {
        self.await_runtime()?;
        let mut file = fs::File::open(image).map_err(vm::Error::io("read", image))?;
        let command = ["ctr", "--namespace", "k8s.io", "images", "import", "-"];
        self.succeeded(&command, self.exec_with(&command, &mut file, &mut std::io::sink())?)
    }

    fn succeeded(&self, command: &[&str], ended: Ended) -> Result<String> {
        if ended.code == 0 {
            return Ok(ended.output);
        }
        let Ended { code, output } = ended;
        Err(Error::OnNode { node: self.name().to_owned(), command: command.join(" "), code, output })
    }

    /// As [`exec`](Self::exec), with standard input, which must come to an end; what it prints is also passed on as it comes.
    ///
    /// # Errors
    /// As [`exec`](Self::exec).
    pub fn exec_with(&self, command: &[&str], input: &mut (dyn Read + Send), shown: &mut dyn Write) -> Result<Ended> {
        let words: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let (port, secret) = self.exec_service();
        let place = PathBuf::from(format!("node {} at 127.0.0.1:{port}", self.name()));
        let io = |action| vm::Error::io(action, &place);
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(io("connect to"))?;
        stream.set_read_timeout(Some(SILENCE)).map_err(io("connect to"))?;
        let head = format!("{secret}\0{}\0", boot::words(&words));
        stream.write_all(head.as_bytes()).map_err(io("write to"))?;
        let mut writer = stream.try_clone().map_err(io("connect to"))?;
        let mark = format!("\n{secret} exit ");
        let output = std::thread::scope(|scope| {
            scope.spawn(move || {
                // A command that stops reading early says why itself.
                let _ = std::io::copy(input, &mut writer);
                let _ = writer.shutdown(Shutdown::Write);
            });
            read_answer(&mut stream, &mark, shown)
        })
        .map_err(io("read from"))?;
        let broken = || Error::BrokenOff {
            node: self.name().to_owned(),
            command: command.join(" "),
            output: String::from_utf8_lossy(&output).into_owned(),
        };
        let (output, code) = answer(&output, &mark).ok_or_else(broken)?;
        Ok(Ended { code, output: String::from_utf8_lossy(output).into_owned() })
    }
}

/// Reads to the mark and the status after it, or to the end. Passes on what cannot be the beginning of the mark.
fn read_answer(stream: &mut TcpStream, mark: &str, shown: &mut dyn Write) -> std::io::Result<Vec<u8>> {
    let (mut output, mut passed) = (Vec::new(), 0);
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = stream.read(&mut buffer)?;
        output.extend_from_slice(&buffer[..count]);
        let found = answer(&output, mark);
        let safe = found.map_or(output.len().saturating_sub(mark.len() + 4).max(passed), |(output, _)| output.len());
        shown.write_all(&output[passed..safe])?;
        passed = safe;
        // What the command left running may hold the connection open.
        if count == 0 || found.is_some() {
            shown.flush()?;
            return Ok(output);
        }
    }
}

/// A command's output and exit status, once both are there.
fn answer<'a>(bytes: &'a [u8], mark: &str) -> Option<(&'a [u8], u8)> {
    let from = bytes.len().saturating_sub(mark.len() + 4);
    let at = from + bytes[from..].windows(mark.len()).position(|window| window == mark.as_bytes())?;
    let code = std::str::from_utf8(&bytes[at + mark.len()..]).ok()?.strip_suffix('\n')?.parse().ok()?;
    Some((&bytes[..at], code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_with_the_mark_and_a_status() {
        let mark = "\nS exit ";
        assert_eq!(answer(b"a\nb\n\nS exit 7\n", mark), Some((b"a\nb\n".as_slice(), 7)));
        assert_eq!(answer(b"\nS exit 255\n", mark), Some((b"".as_slice(), 255)));
        for other in [&b"a\nS exit 7"[..], b"a\nS exit \n", b"a", b"", b"\nS exit 7\nmore\n"] {
            assert_eq!(answer(other, mark), None, "{}", String::from_utf8_lossy(other));
        }
    }
}
