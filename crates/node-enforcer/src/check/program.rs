//! A program of a few bytes, so that a self-test costs a start almost nothing.

/// Where it is mapped.
const BASE: u64 = 0x40_0000;
const HEADERS: u64 = 64 + 56;
/// What it exits with, and nothing else does by accident.
pub(super) const STATUS: u8 = 77;

/// What it writes to its standard output before anything else: the first byte of its own file.
pub(super) const SAID: &[u8] = b"\x7f";

/// `write(1, BASE, 1); exit(STATUS)` in the machine's own instructions.
#[cfg(target_arch = "x86_64")]
const CODE: [u8; 34] = [
    0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0, 0xbe, 0, 0, 0x40, 0, // mov eax, write; mov edi, 1; mov esi, BASE
    0xba, 1, 0, 0, 0, 0x0f, 0x05, // mov edx, 1; syscall
    0xbf, STATUS, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05, // mov edi, STATUS; mov eax, exit; syscall
];
#[cfg(target_arch = "aarch64")]
const CODE: [u8; 32] = {
    // mov x0, 1; mov x1, BASE (movz, lsl 16); mov x2, 1; mov x8, write; svc 0; mov x0, STATUS; mov x8, exit; svc 0
    let words = [
        0xd280_0020_u32,
        0xd2a0_0801,
        0xd280_0022,
        0xd280_0808,
        0xd400_0001,
        0xd280_0000 | (STATUS as u32) << 5,
        0xd280_0ba8,
        0xd400_0001,
    ];
    let mut code = [0; 32];
    let mut at = 0;
    while at < 32 {
        code[at] = words[at / 4].to_le_bytes()[at % 4];
        at += 1;
    }
    code
};
/// `EM_X86_64`, `EM_AARCH64` (include/uapi/linux/elf-em.h).
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

/// A static ELF program that ends at once with [`STATUS`].
pub(super) fn ends_at_once() -> Vec<u8> {
    let size = HEADERS + CODE.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [2, MACHINE] {
        file.extend(half.to_le_bytes()); // ET_EXEC
    }
    file.extend(1_u32.to_le_bytes());
    for word in [BASE + HEADERS, 64, 0] {
        file.extend(word.to_le_bytes()); // entry, program headers, no section headers
    }
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    for half in [1_u32, 5] {
        file.extend(half.to_le_bytes()); // PT_LOAD, readable and executable
    }
    for word in [0, BASE, BASE, size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(CODE);
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use crate::containers::scratch::Scratch;

    #[test]
    fn it_ends_with_its_status() {
        let scratch = Scratch::new();
        let path = scratch.path().join("program");
        fs::write(&path, ends_at_once()).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        let output = Command::new(&path).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(STATUS.into()), SAID));
    }
}
