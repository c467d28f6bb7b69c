//! Excepted paths, and attempts to borrow one.

use super::case::{Case, PathRule, Profile, Reason, allowed, refused};

const NEW: &[Reason] = &[Reason::NewBinary];
const INSTALL: &str = "mkdir -p /opt/agent/bin; rm -f /opt/agent/bin/updater; cp $T /opt/agent/bin/updater";

pub(crate) const CASES: &[Case] = &[
    allowed("exception/excepted-path-runs", INSTALL)
        .profile(Profile::Lists)
        .run("/opt/agent/bin/updater"),
    allowed("exception/excepted-library-maps", INSTALL)
        .profile(Profile::Lists)
        .run("$P mmap-exec /opt/agent/bin/updater"),
    allowed("exception/by-a-symlink", "mkdir -p /opt/agent/bin; rm -f /opt/agent/bin/updater; cp $T /opt/agent/bin/updater; ln -s /opt/agent/bin/updater $X")
        .profile(Profile::Lists),
    refused("exception/another-policy-has-none", NEW, INSTALL)
        .profile(Profile::TwoPolicies)
        .run("/opt/agent/bin/updater")
        .path(PathRule::Is("/opt/agent/bin/updater"))
        .twin("$V"),
    refused("exception/neighbour", NEW, "mkdir -p /opt/agent/bin; cp $T /opt/agent/bin/updater2")
        .profile(Profile::Lists)
        .run("/opt/agent/bin/updater2")
        .path(PathRule::Is("/opt/agent/bin/updater2"))
        .twin("$V"),
    refused("exception/forged-by-chroot", NEW, "mkdir -p r/opt/agent/bin; cp $T r/opt/agent/bin/updater")
        .profile(Profile::Lists)
        .run("/bin/busybox chroot $D/r /opt/agent/bin/updater")
        .path(PathRule::Is("$D/r/opt/agent/bin/updater"))
        .twin("/bin/busybox chroot / $V"),
    refused("exception/forged-by-chroot-in-a-user-namespace", NEW, "mkdir -p r/opt/agent/bin; cp $T r/opt/agent/bin/updater")
        .profile(Profile::Lists)
        .run("$P as-uid 1000 $P unshare Um /bin/busybox chroot $D/r /opt/agent/bin/updater")
        .path(PathRule::Is("$D/r/opt/agent/bin/updater"))
        .twin("/bin/busybox chroot / $V"),
    refused("exception/forged-by-a-bind-mount", NEW, "cp $T $X; mkdir -p /opt/agent/bin; : > /opt/agent/bin/bound; mount --bind $X /opt/agent/bin/bound")
        .profile(Profile::Lists)
        .run("/opt/agent/bin/bound")
        .twin("$V"),
    refused("exception/forged-by-a-bind-of-its-folder", NEW, "mkdir bin; cp $T bin/program; mkdir -p /opt/agent/mounted; mount --bind $D/bin /opt/agent/mounted")
        .profile(Profile::Lists)
        .run("/opt/agent/mounted/program")
        .path(PathRule::Is("$D/bin/program"))
        .twin("$V"),
    refused("exception/forged-by-a-tmpfs", &[Reason::ForeignMount], "mkdir -p /opt/agent/memory; mount -t tmpfs none /opt/agent/memory; cp $T /opt/agent/memory/program")
        .profile(Profile::Lists)
        .run("/opt/agent/memory/program")
        .path(PathRule::Any)
        .twin("$V"),
    refused("exception/forged-by-an-overlay", &[Reason::ForeignMount], "mkdir -p l1 l2 /opt/agent/layered; cp $T l1/program; mount -t overlay none -o lowerdir=$D/l1:$D/l2 /opt/agent/layered")
        .profile(Profile::Lists)
        .run("/opt/agent/layered/program")
        .path(PathRule::Any)
        .twin("$V"),
    // A file without a link has no mount in its path: what a tmpfs's own root makes of it must not be asked of the lists.
    refused("exception/forged-by-an-unlinked-file", &[Reason::Fileless], "mkdir m; mount -t tmpfs none m; mkdir -p m/opt/agent/bin; cp $T m/opt/agent/bin/updater")
        .profile(Profile::Lists)
        .run("$P exec-unlinked $D/m/opt/agent/bin/updater")
        .path(PathRule::Any)
        .twin("$V"),
    refused("exception/forged-by-an-unlinked-file-in-a-user-namespace", &[Reason::Fileless], "mkdir m; chmod 777 . m")
        .profile(Profile::Lists)
        .run("$P as-uid 1000 $P unshare Um /bin/sh -c 'mount -t tmpfs none m; mkdir -p m/opt/agent/bin; cp $T m/opt/agent/bin/updater; $P exec-unlinked $D/m/opt/agent/bin/updater'")
        .path(PathRule::Any)
        .twin("$V"),
];
