//! Files that are too long, no files, no text, or made to hurt.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use proptest::prelude::*;

use super::{Scratch, load_here, policy, refusal, refusal_of, with_detect};
use crate::policies::FILE_BYTES_MAX;

#[test]
fn long_files_are_refused_before_they_are_read() {
    let scratch = Scratch::new();
    let file = scratch.at("big.yaml");
    // Sparse: nothing of it is on disk, and nothing of it may get into memory.
    fs::File::create(&file).unwrap().set_len(100 << 20).unwrap();
    let errors = refusal(&scratch, &file);
    assert!(errors[0].contains("is 104857600 bytes long, and a policy file may have 1048576"), "{errors:?}");
    let scratch = Scratch::new();
    for i in 0..9 {
        let filler = "#".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() - 200);
        scratch.write(&format!("{i}.yaml"), format!("{}{filler}", policy(&format!("p{i}"))));
    }
    let errors = refusal(&scratch, scratch.path());
    assert!(errors.iter().any(|e| e.contains("to more than 8388608 bytes")), "{errors:?}");
}

#[test]
fn what_is_not_utf8_is_refused_with_the_offset() {
    let mut bytes = policy("p").into_bytes();
    let offset = bytes.len();
    bytes.extend(b"\xff");
    assert!(refusal_of(bytes).contains(&format!("is not UTF-8 from byte {offset} on")));
}

#[test]
fn what_is_no_file_neither_hangs_nor_is_read() {
    let scratch = Scratch::new();
    let fifo = scratch.at("p.yaml");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [fifo.as_path(), scratch.path(), Path::new("/dev/zero")] {
        let errors = refusal(&scratch, path);
        assert!(errors[0].contains("is a device, pipe or socket, not a file: "), "{errors:?}");
    }
    fs::remove_file(&fifo).unwrap();
    scratch.folder("p.yaml");
    assert!(refusal(&scratch, scratch.path())[0].contains("is a folder, not a file: "));
}

#[test]
fn missing_paths_and_dangling_links_are_told_apart() {
    let scratch = Scratch::new();
    assert!(refusal(&scratch, &scratch.at("no"))[0].contains("cannot be read (No such file"));
    scratch.write("file", "x");
    assert!(refusal(&scratch, &scratch.at("file/below"))[0].contains("cannot be read (Not a directory"));
    symlink("nowhere", scratch.at("l.yaml")).unwrap();
    for path in [scratch.at("l.yaml"), scratch.path().to_owned()] {
        assert!(refusal(&scratch, &path)[0].starts_with("/l.yaml: is a link to a file that does not exist"));
    }
    symlink("loop.yaml", scratch.at("loop.yaml")).unwrap();
    assert!(refusal(&scratch, &scratch.at("loop.yaml"))[0].contains("cannot be read (Too many levels"));
}

#[test]
fn bombs_are_refused_quickly() {
    let mut aliases = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for i in 1..12 {
        let previous = format!("*a{},", i - 1).repeat(10);
        writeln!(aliases, "a{i}: &a{i} [{previous}]").unwrap();
    }
    let deep_flow = format!("spec: {}{}\n", "[".repeat(10_000), "]".repeat(10_000));
    let deep_block: Vec<_> = (0..500).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
    let wide = format!("a: [{}]\n", "1,".repeat(30_000));
    for bomb in [aliases, deep_flow, deep_block.concat(), wide] {
        let started = std::time::Instant::now();
        let message = refusal_of(&bomb);
        assert!(message.contains("is not YAML that can be read"), "{message}");
        assert!(started.elapsed().as_secs() < 5);
    }
    let scratch = Scratch::new();
    let file = scratch.write("p.json", format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)));
    assert!(refusal(&scratch, &file)[0].contains("is not JSON that can be read"));
}

#[test]
fn a_flood_of_errors_is_counted() {
    let scratch = Scratch::new();
    let file = scratch.write("p.yaml", "---\nkind: x\n".repeat(500));
    let errors = load_here(&file).unwrap_err();
    assert_eq!(errors.errors().len(), 64);
    assert!(errors.more() > 400 && errors.to_string().ends_with(&format!("and {} more", errors.more())));
}

#[test]
fn no_error_breaks_its_line() {
    let scratch = Scratch::new();
    let file = scratch.write("a\nb.yaml", "\"x\\n\\e[2Jy\": 1\nkind: \"\\u202e\"\n");
    let text = load_here(&file).unwrap_err().to_string();
    assert!(!text.contains(mooring_crd::text::is_unsafe), "{text:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn no_file_makes_the_loader_panic(
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8), json in any::<bool>(),
    ) {
        let scratch = Scratch::new();
        let mut bytes = with_detect("    exceptions: &l [{path: /a}]\n    prohibitedBinaries: *l\n").into_bytes();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let file = scratch.write(if json { "p.json" } else { "p.yaml" }, &bytes);
        if let Err(errors) = load_here(&file) {
            prop_assert!(!errors.to_string().contains(mooring_crd::text::is_unsafe));
            prop_assert!(!errors.errors().is_empty());
        }
    }
}
