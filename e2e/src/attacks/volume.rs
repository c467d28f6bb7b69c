//! Files on declared volumes: `/vol` is a folder and `/volfile` a single file of the host, both bind-mounted by the bundle.

use super::case::{Case, PathRule, Profile, Reason, allowed, refused};

const VOLUME: &[Reason] = &[Reason::VolumeBinary];

const fn on_volume(name: &'static str, setup: &'static str) -> Case {
    refused(name, VOLUME, setup)
        .profile(Profile::Volumes)
        .run("/vol/${D##*/}/x")
        .twin("$V")
        .path(PathRule::Has("/vol/"))
}

pub(crate) const CASES: &[Case] = &[
    on_volume("volume/folder", "mkdir /vol/${D##*/}; cp $T /vol/${D##*/}/x"),
    on_volume("volume/single-file", ":").run("/volfile").path(PathRule::Is("/volfile")),
    on_volume("volume/symlink-into-it", "mkdir /vol/${D##*/}; cp $T /vol/${D##*/}/x; ln -s /vol/${D##*/}/x $X")
        .run("$X"),
    on_volume(
        "volume/bind-of-a-subfolder",
        "mkdir b /vol/${D##*/}; cp $T /vol/${D##*/}/x; mount --bind /vol/${D##*/} b",
    )
    .run("$D/b/x"),
    on_volume("volume/unshared", "mkdir /vol/${D##*/}; cp $T /vol/${D##*/}/x").run("$P unshare m /vol/${D##*/}/x"),
    on_volume("volume/moved-away-mount", "mkdir b /vol/${D##*/}; cp $T /vol/${D##*/}/x")
        .run("$P unshare m sh -c 'mount --bind /vol b && umount -l /vol; b/${D##*/}/x'"),
    refused("volume/mapped", &[Reason::DriftedLibrary], "mkdir /vol/${D##*/}; cp $T /vol/${D##*/}/x")
        .profile(Profile::Volumes)
        .run("$P mmap-exec /vol/${D##*/}/x")
        .path(PathRule::Has("/vol/"))
        .twin("$P mmap-exec $V"),
    refused("volume/unlinked-is-fileless", &[Reason::Fileless], "mkdir /vol/${D##*/}; cp $T /vol/${D##*/}/x")
        .run("$P exec-unlinked /vol/${D##*/}/x")
        .path(PathRule::Any)
        .twin("mkdir /vol/${D##*/}; cp $T /vol/${D##*/}/x; $P exec-proc-fd /vol/${D##*/}/x"),
    allowed("volume/allowed-without-volume-binaries", "mkdir /vol/${D##*/}; cp $T /vol/${D##*/}/x")
        .run("/vol/${D##*/}/x"),
    allowed("volume/single-file-allowed-without-volume-binaries", ":").run("/volfile"),
    allowed("volume/mapped-without-volume-binaries", "mkdir /vol/${D##*/}; cp $T /vol/${D##*/}/x")
        .run("$P mmap-exec /vol/${D##*/}/x"),
];
