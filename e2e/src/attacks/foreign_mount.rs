//! Files on mounts that neither the image nor the bundle's volumes brought.

use super::case::{Case, PathRule, Profile, Reason, refused};

const FOREIGN: &[Reason] = &[Reason::ForeignMount];

const fn foreign(name: &'static str, setup: &'static str) -> Case {
    refused(name, FOREIGN, setup).twin("$V").path(PathRule::Any)
}

const TMPFS_INSIDE: &str = "mkdir m; mount -t tmpfs none $D/m; cp $T $D/m/x";
const NESTED_OVERLAY: &str = "mkdir m l1 l2; cp $T l1/x; mount -t overlay none -o lowerdir=$D/l1:$D/l2 $D/m";

pub(crate) const CASES: &[Case] = &[
    foreign("foreign-mount/tmpfs", TMPFS_INSIDE).run("$D/m/x"),
    foreign("foreign-mount/tmpfs-with-volume-binaries", TMPFS_INSIDE)
        .profile(Profile::Volumes)
        .run("$D/m/x"),
    foreign("foreign-mount/tmpfs-in-a-user-namespace", "mkdir m")
        .run("$P as-uid 1000 $P unshare Um sh -c 'mount -t tmpfs none $D/m && cp $T $D/m/x && $D/m/x'"),
    foreign("foreign-mount/dev-shm", "mount -o remount,exec /dev/shm; cp $T /dev/shm/${D##*/}").run("/dev/shm/${D##*/}"),
    foreign("foreign-mount/dev", "cp $T /dev/${D##*/}").run("/dev/${D##*/}"),
    foreign("foreign-mount/run-by-the-runtime", "cp $T /run/${D##*/}").run("/run/${D##*/}"),
    foreign("foreign-mount/hard-link-on-dev-shm", "mount -o remount,exec /dev/shm; cp $T /dev/shm/${D##*/}; ln /dev/shm/${D##*/} /dev/shm/${D##*/}.l")
        .run("/dev/shm/${D##*/}.l"),
    foreign("foreign-mount/nested-overlay", NESTED_OVERLAY).run("$D/m/x"),
    foreign("foreign-mount/nested-overlay-over-the-image", "mkdir m l2; mount -t overlay none -o lowerdir=/fix/victim:$D/l2 $D/m")
        .run("$D/m/${V##*/}"),
    foreign("foreign-mount/overlay-on-tmpfs", "mkdir m; mount -t tmpfs none $D/m; cd m; mkdir l u w o; cp $T l/x; mount -t overlay none -o lowerdir=l,upperdir=u,workdir=w o")
        .run("$D/m/o/x"),
    foreign("foreign-mount/overlay-in-a-user-namespace", "mkdir m")
        .run("$P as-uid 1000 $P unshare Um sh -c 'mount -t tmpfs none $D/m && cd m && mkdir l u w o && cp $T l/x && mount -t overlay none -o lowerdir=l,upperdir=u,workdir=w o && o/x'"),
    foreign("foreign-mount/tmpfs-over-an-image-folder", "mkdir m; cp $T m/keep; mount -t tmpfs none /fix/covered; cp m/keep /fix/covered/program")
        .run("/fix/covered/program"),
    foreign("foreign-mount/moved-root", TMPFS_INSIDE)
        .run("/bin/busybox chroot $D/m /x"),
];
