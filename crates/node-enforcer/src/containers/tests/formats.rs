//! The parsers of mountinfo, cgroup paths and command lines.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use crate::containers::cgroup_path::{candidate_ids, clean, fits, is_id, likely};
use crate::containers::command_line::{config_file, parse};
use crate::containers::finder::is_foreign_scope;
use crate::containers::{MountEntry, Runtime};

const ID: &str = "4f1c9a8d7e6b";

#[test]
fn mountinfo_gives_the_superblock_in_the_kernels_encoding_and_unescapes_paths() {
    let line =
        br"36 35 259:1048575 /mnt1\134x /a\040b rw,noatime shared:1 master:2 - ext3 /dev/root rw,errors=continue";
    let mount = MountEntry::parse(line).unwrap();
    assert_eq!((mount.id, mount.dev), (36, (259 << 20) | 1_048_575));
    assert_eq!(mount.root, Path::new(r"/mnt1\x"));
    assert_eq!(mount.mount_point, Path::new("/a b"));
    assert_eq!(mount.fs_type, "ext3");
    assert_eq!(mount.upper_dir(), None);
}

#[test]
fn an_overlays_layers_are_split_and_unescaped() {
    let line = br"1 0 0:45 / /m rw - overlay overlay rw,lowerdir=/l\054/2:/l/1\134:x::/data,upperdir=/u\0401,workdir=/w,xino=off";
    let mount = MountEntry::parse(line).unwrap();
    assert_eq!(mount.upper_dir(), Some(PathBuf::from("/u 1")));
    let lower = mount.lower_dirs();
    assert_eq!(lower, [Path::new("/l,/2"), Path::new("/l/1:x"), Path::new("/data")]);

    let by_fsconfig = br"1 0 0:45 / /m rw - overlay overlay rw,lowerdir+=/a:b,lowerdir+=/c,upperdir=/u,workdir=/w";
    let lower = MountEntry::parse(by_fsconfig).unwrap().lower_dirs();
    assert_eq!(lower, [Path::new("/a:b"), Path::new("/c")]);
}

#[test]
fn cut_lines_are_no_mounts() {
    for line in [
        &b""[..],
        b"36 35 8:1 / /a rw",
        b"36 35 8:1 / /a rw -",
        b"x 35 8:1 / /a rw - ext4 a rw",
        b"36 35 8:1048576 / /a rw - ext4 a rw",
    ] {
        assert_eq!(MountEntry::parse(line), None, "{}", String::from_utf8_lossy(line));
    }
}

#[test]
fn cgroup_paths_fit_as_the_runtimes_make_them() {
    let systemd = "kubepods-besteffort-pod12_3.slice:cri-containerd:4f1c9a8d7e6b";
    let cases: &[(Option<&str>, &str, bool)] = &[
        (Some("/kubepods/pod1/4f1c9a8d7e6b"), "/kubepods/pod1/4f1c9a8d7e6b", true),
        (Some("/kubepods/pod1//./4f1c9a8d7e6b/"), "/kubepods/pod1/4f1c9a8d7e6b", true),
        (Some("/kubepods/pod1/4f1c9a8d7e6b"), "/kubepods/pod1", false),
        (Some("/kubepods/pod1/4f1c9a8d7e6b"), "/x/kubepods/pod1/4f1c9a8d7e6b", false),
        (Some("/a/../../b"), "/b", true),
        (Some("machine/4f1c9a8d7e6b"), "/user.slice/machine/4f1c9a8d7e6b", true),
        (Some("machine/4f1c9a8d7e6b"), "/user.slice/xmachine/4f1c9a8d7e6b", false),
        (
            Some(systemd),
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod12_3.slice/cri-containerd-4f1c9a8d7e6b.scope",
            true,
        ),
        (
            Some(systemd),
            "/system.slice/containerd.service/kubepods-besteffort-pod12_3.slice:cri-containerd:4f1c9a8d7e6b",
            true,
        ),
        (Some(systemd), "/kubepods.slice/cri-containerd-4f1c9a8d7e6b.scope", false),
        (Some(":docker:4f1c9a8d7e6b"), "/system.slice/docker-4f1c9a8d7e6b.scope", true),
        (
            Some("user.slice:runc:4f1c9a8d7e6b"),
            "/user.slice/user-1000.slice/user@1000.service/user.slice/runc-4f1c9a8d7e6b.scope",
            true,
        ),
        (Some("-.slice::4f1c9a8d7e6b"), "/4f1c9a8d7e6b.scope", true),
        (Some("machine.slice:libpod:4f1c9a8d7e6b"), "/machine.slice/libpod-conmon-4f1c9a8d7e6b.scope", false),
        (None, "/4f1c9a8d7e6b", true),
        (None, "/user.slice/user-0.slice/4f1c9a8d7e6b", true),
        (None, "/system.slice/runc-4f1c9a8d7e6b.scope", true),
        (None, "/system.slice/libpod-conmon-4f1c9a8d7e6b.scope", false),
        (None, "/user.slice", false),
    ];
    for (declared, cgroup, expected) in cases {
        assert_eq!(fits(*declared, ID, cgroup), *expected, "{declared:?} in {cgroup}");
    }
}

#[test]
fn the_likely_cgroup_of_a_bundle_fits_it() {
    for declared in [Some("/a/4f1c9a8d7e6b"), Some("a-b.slice:p:4f1c9a8d7e6b"), Some("m/4f1c9a8d7e6b"), None] {
        for cgroup in likely(declared, ID) {
            assert!(fits(declared, ID, &cgroup), "{declared:?} {cgroup}");
        }
    }
}

#[test]
fn a_cgroups_name_gives_the_ids_it_may_hold() {
    assert_eq!(candidate_ids("/kubepods/pod1/4f1c"), ["4f1c"]);
    assert!(candidate_ids("/machine.slice/libpod-4f1c.scope").contains(&"4f1c"));
    assert!(candidate_ids("/system.slice/runc-my-app.scope").contains(&"my-app"));
    assert!(candidate_ids("/libpod_parent/libpod-4f1c").contains(&"4f1c"));
    assert_eq!(candidate_ids("/x/a.slice:cri-containerd:4f1c"), ["4f1c"]);
    for cgroup in ["/system.slice/ssh.service", "/a/b.mount", "/", "/a/..", "/a/b c"] {
        assert_eq!(candidate_ids(cgroup), Vec::<&str>::new(), "{cgroup}");
    }
}

fn cmdline(arguments: &str) -> Vec<u8> {
    arguments.split(' ').flat_map(|argument| [argument.as_bytes(), b"\0"].concat()).collect()
}

#[test]
fn command_lines_of_runtimes_name_bundle_and_id() {
    let cases = [
        // containerd's shim.
        (
            "runc --root /run/containerd/runc/k8s.io --log /b/log.json --log-format json --systemd-cgroup create --bundle /b --pid-file /b/init.pid 4f1c",
            Runtime::Runc,
            "/b",
        ),
        ("/usr/sbin/runc run -b /b 4f1c", Runtime::Runc, "/b"),
        ("runc run -d --bundle=/b --console-socket /tmp/s --preserve-fds 3 4f1c", Runtime::Runc, "/b"),
        ("runc -root /x create -bundle /b -pidfd-socket /s 4f1c", Runtime::Runc, "/b"),
        ("runc --rootless auto --debug run 4f1c", Runtime::Runc, "/cwd"),
        ("runc create -b rel 4f1c", Runtime::Runc, "/cwd/rel"),
        ("crun --cgroup-manager=disabled --root=/x create --pid-file /p -b/b 4f1c", Runtime::Crun, "/b"),
        ("youki -r /x --log-level debug create --bundle /b -- 4f1c", Runtime::Youki, "/b"),
        ("/usr/bin/nvidia-container-runtime create --bundle /b 4f1c", Runtime::Other, "/b"),
        ("runc restore --image-path /i --work-path /w --bundle /b 4f1c", Runtime::Runc, "/b"),
    ];
    for (line, runtime, bundle) in cases {
        let command = parse(&cmdline(line)).unwrap_or_else(|| panic!("{line}"));
        assert_eq!((command.runtime, command.id.as_str()), (runtime, "4f1c"), "{line}");
        let (folder, config) = config_file(&command, Some(Path::new("/cwd"))).unwrap();
        assert_eq!(folder, Path::new(bundle), "{line}");
        assert_eq!(config, Path::new(bundle).join("config.json"), "{line}");
    }
}

#[test]
fn crun_may_read_another_configuration() {
    let command = parse(&cmdline("crun run -f other.json --bundle /b 4f1c")).unwrap();
    assert_eq!(config_file(&command, None).unwrap().1, Path::new("/b/other.json"));
}

#[test]
fn only_scopes_that_are_not_systemds_own_are_looked_for() {
    assert!(is_foreign_scope("/my.slice/box-demo.scope"));
    for own in ["/user.slice/user-0.slice/session-1.scope", "/init.scope", "/system.slice/run-r1.scope", "/a.slice"] {
        assert!(!is_foreign_scope(own), "{own}");
    }
}

#[test]
fn options_may_stand_behind_the_id() {
    let command = parse(&cmdline("runc run 4f1c --pid-file /p --detach -b /b")).unwrap();
    assert_eq!((command.id.as_str(), command.bundle), ("4f1c", Some("/b".into())));
}

#[test]
fn other_commands_create_no_container() {
    let no_id = "runc create --bundle /b";
    for line in ["runc exec -t 4f1c sh", "runc delete 4f1c", "/sbin/init", "bash -c run", "runc --root", "", no_id] {
        assert_eq!(parse(&cmdline(line)), None, "{line}");
    }
    assert_eq!(parse(b""), None);
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,40}") {
        let _ = MountEntry::parse(&bytes).map(|mount| (mount.upper_dir(), mount.lower_dirs()));
        let _ = parse(&bytes);
        let _ = fits(Some(&text), &text, &text);
        let _ = likely(Some(&text), &text);
        prop_assert!(candidate_ids(&text).iter().all(|id| is_id(id)));
    }

    #[test]
    fn mount_lines_never_make_the_parser_panic(tail in "[-a-z:,=+\\\\0-9 /]{0,80}") {
        let line = format!("1 2 3:4 / /m rw - overlay o {tail}");
        let mount = MountEntry::parse(line.as_bytes());
        let _ = mount.map(|mount| (mount.upper_dir(), mount.lower_dirs()));
    }

    #[test]
    fn cleaning_a_clean_path_changes_nothing(path in "[a./]{0,20}") {
        let once = clean(&path);
        prop_assert_eq!(clean(&once), once.clone());
        prop_assert!(once.starts_with('/') && !once.contains("//") && !once.split('/').any(|p| p == ".." || p == "."));
    }

    #[test]
    fn an_absolute_cgroup_path_fits_itself_and_no_parent(a in "[a-z]{1,5}", b in "[a-z]{1,5}") {
        let path = format!("/{a}/{b}");
        prop_assert!(fits(Some(&path), &b, &path));
        let parent = format!("/{a}");
        prop_assert!(!fits(Some(&path), &b, &parent));
    }
}
