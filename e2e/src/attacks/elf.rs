//! Programs of a few hundred bytes, written by hand, so that nothing depends on a compiler in the guest.

/// Where a program is mapped when it is not position independent: it always is here, this only keeps the addresses readable.
const BASE: u64 = 0x40_0000;
const HEADER: usize = 64;
/// The size of every program: an old kernel clears the rest of an interpreter's last page, which is not writable here.
const PAGE: usize = 4096;
const PROGRAM_HEADER: usize = 56;

/// A static x86-64 program that writes `text` to standard output and exits 0. `salt` is appended so that two programs differ.
#[must_use]
pub fn program(text: &str, salt: &str) -> Vec<u8> {
    build(text, salt, None)
}

/// As [`program`], but the kernel loads `interpreter` first and starts there.
pub(crate) fn program_with_interpreter(text: &str, interpreter: &str) -> Vec<u8> {
    build(text, "", Some(interpreter))
}

fn build(text: &str, salt: &str, interpreter: Option<&str>) -> Vec<u8> {
    let segments: u16 = if interpreter.is_some() { 2 } else { 1 };
    let code_at = HEADER + PROGRAM_HEADER * usize::from(segments);
    let code = write_and_exit(text);
    let interpreter_at = code_at + code.len();
    let interpreter_bytes: Vec<u8> = interpreter.map_or_else(Vec::new, |path| [path.as_bytes(), &[0]].concat());
    let size = PAGE as u64;

    let mut file = Vec::new();
    file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend_from_slice(&3u16.to_le_bytes()); // ET_DYN: may be a program and an interpreter
    file.extend_from_slice(&62u16.to_le_bytes()); // EM_X86_64
    file.extend_from_slice(&1u32.to_le_bytes());
    file.extend_from_slice(&(BASE + code_at as u64).to_le_bytes()); // entry
    file.extend_from_slice(&(HEADER as u64).to_le_bytes()); // program headers
    file.extend_from_slice(&0u64.to_le_bytes()); // no section headers
    file.extend_from_slice(&0u32.to_le_bytes());
    for half in [64u16, 56, segments, 64, 0, 0] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    if interpreter.is_some() {
        let len = interpreter_bytes.len() as u64;
        segment(&mut file, 3, 4, interpreter_at as u64, len);
    }
    segment(&mut file, 1, 5, 0, size);
    file.extend_from_slice(&code);
    file.extend_from_slice(&interpreter_bytes);
    file.resize(PAGE - salt.len(), 0);
    file.extend_from_slice(salt.as_bytes());
    file
}

fn segment(file: &mut Vec<u8>, kind: u32, flags: u32, offset: u64, size: u64) {
    file.extend_from_slice(&kind.to_le_bytes());
    file.extend_from_slice(&flags.to_le_bytes());
    for word in [offset, BASE + offset, BASE + offset, size, size] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    let align: u64 = if kind == 1 { 0x1000 } else { 1 };
    file.extend_from_slice(&align.to_le_bytes());
}

fn write_and_exit(text: &str) -> Vec<u8> {
    // Of 64 bits on x86-64: the low half is enough for any text that is written here.
    let len = text.len().to_le_bytes();
    let mut code = vec![0xb8, 1, 0, 0, 0]; // mov eax, 1 (write)
    code.extend_from_slice(&[0xbf, 1, 0, 0, 0]); // mov edi, 1
    code.extend_from_slice(&[0x48, 0x8d, 0x35, 16, 0, 0, 0]); // lea rsi, [rip + 16]: the text
    code.push(0xba); // mov edx, len
    code.extend_from_slice(&len[..4]);
    code.extend_from_slice(&[0x0f, 0x05]); // syscall
    code.extend_from_slice(&[0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05]); // exit(0)
    code.extend_from_slice(text.as_bytes());
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    fn run(bytes: &[u8], name: &str) -> String {
        let path = std::env::temp_dir().join(format!("mooring-elf-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let output = Command::new(&path).output().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }

    // One test: a parallel one could fork while a program is still open for writing, and its exec would be "text file busy".
    #[test]
    fn programs_run_and_interpreters_start_first() {
        assert_eq!(run(&program("hello\n", "salt"), "plain"), "hello\n");
        assert_ne!(program("a", "1"), program("a", "2"));

        let interpreter = std::env::temp_dir().join(format!("mooring-interp-{}", std::process::id()));
        std::fs::write(&interpreter, program("interpreter\n", "")).unwrap();
        std::fs::set_permissions(&interpreter, std::fs::Permissions::from_mode(0o755)).unwrap();
        let bytes = program_with_interpreter("program\n", interpreter.to_str().unwrap());
        assert_eq!(run(&bytes, "interp"), "interpreter\n");
        std::fs::remove_file(&interpreter).unwrap();
    }
}
