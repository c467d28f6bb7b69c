//! Files without a name: memfds, and what has no link left.

use super::case::{Case, PathRule, Profile, Reason, allowed, refused};

const FILELESS: &[Reason] = &[Reason::Fileless];

pub(crate) const CASES: &[Case] = &[
    refused("fileless/memfd", FILELESS, ":")
        .run("$P exec-memfd dropped $T execveat")
        .path(PathRule::Has("memfd:dropped"))
        .twin("$P exec-empty-path $V"),
    refused("fileless/memfd-by-proc-self-fd", FILELESS, ":")
        .run("$P exec-memfd dropped-too $T proc-fd")
        .path(PathRule::Has("memfd:dropped-too"))
        .twin("$P exec-proc-fd $V"),
    refused("fileless/sealed-memfd", FILELESS, ":")
        .run("$P exec-memfd sealed $T sealed")
        .path(PathRule::Has("memfd:sealed"))
        .twin("$P exec-empty-path $V"),
    // The runtime's own name for its sealed copy gives no exemption to what runs in the container.
    refused("fileless/memfd-named-like-the-runtime", FILELESS, ":")
        .run("$P exec-memfd runc_cloned:/proc/self/exe $T sealed")
        .path(PathRule::Has("memfd:runc_cloned"))
        .twin("$P exec-empty-path $V"),
    refused("fileless/memfd-in-namespaces", FILELESS, ":")
        .run("$P unshare Ump $P exec-memfd unshared $T execveat")
        .path(PathRule::Has("memfd:unshared"))
        .twin("$P unshare Ump $P exec-empty-path $V"),
    refused("fileless/nameless-temporary-file", FILELESS, ":")
        .run("$P exec-otmpfile $D $T")
        .path(PathRule::Any)
        .twin("$P exec-empty-path $V"),
    refused("fileless/nameless-temporary-file-on-a-volume", FILELESS, ":")
        .run("$P exec-otmpfile /vol $T")
        .path(PathRule::Any)
        .twin("$P exec-empty-path $V"),
    refused("fileless/unlinked", FILELESS, "cp $T $X")
        .run("$P exec-unlinked $X")
        .path(PathRule::Any)
        .twin("$P exec-proc-fd $V"),
    refused("fileless/unlinked-in-dev-shm", FILELESS, "mount -o remount,exec /dev/shm; cp $T /dev/shm/${D##*/}")
        .run("$P exec-unlinked /dev/shm/${D##*/}")
        .path(PathRule::Any)
        .twin("$P exec-proc-fd $V"),
    refused("fileless/shared-memory", FILELESS, ":")
        .run("$P exec-memory anonymous $T")
        .path(PathRule::Any)
        .twin("$P exec-proc-fd $V"),
    refused("fileless/shared-segment", FILELESS, ":")
        .run("$P exec-memory segment $T")
        .path(PathRule::Any)
        .twin("$P exec-proc-fd $V"),
    refused("fileless/memfd-not-on-the-list", FILELESS, ":")
        .profile(Profile::Lists)
        .run("$P exec-memfd allowed-nearly $T execveat")
        .path(PathRule::Has("memfd:allowed-nearly"))
        .twin("$P exec-memfd allowed $T execveat"),
    allowed("fileless/excepted-memfd", ":").profile(Profile::Lists).run("$P exec-memfd allowed $T execveat"),
];
