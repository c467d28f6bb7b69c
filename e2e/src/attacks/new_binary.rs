//! Files that exist only in the container's upper layer, and the ways to execute one.

use super::case::{Case, PathRule, Reason, Via, refused};

const NEW: &[Reason] = &[Reason::NewBinary];
/// A name that was replaced: the kernel sees a new file where the image had one.
const REPLACED: &[Reason] = &[Reason::NewBinary, Reason::ModifiedBinary];
const DROP: &str = "cp $T $X";

pub(crate) const CASES: &[Case] = &[
    // How the file comes to be.
    refused("new-binary/copy", NEW, DROP),
    refused("new-binary/write-then-chmod", NEW, "cat $T > $X; chmod 755 $X"),
    refused("new-binary/rename-of-a-drop", NEW, "cp $T $D/y; mv $D/y $X"),
    refused("new-binary/rename-over-an-image-file", REPLACED, "cp $T $D/y; mv $D/y $V").changes_victim(),
    refused("new-binary/removed-and-made-again", REPLACED, "rm $V; cp $T $V").changes_victim(),
    refused("new-binary/hard-link-to-a-drop", NEW, "cp $T $D/y; ln $D/y $X").path(PathRule::Has("$D/")),
    refused("new-binary/symlink-to-a-drop", NEW, "cp $T $D/y; ln -s $D/y $X")
        .path(PathRule::Is("$D/y"))
        .twin("ln -s $V $D/s; $D/s"),
    refused("new-binary/image-symlink-to-a-drop", NEW, "mkdir -p /opt/late; cp $T /opt/late/program")
        .run("/fix/dangling")
        .path(PathRule::Is("/opt/late/program"))
        .twin("ln -s $V $D/s; $D/s"),
    refused("new-binary/script", NEW, "printf '#!/bin/sh\\necho PAYLOAD-RAN\\n' > $X; chmod 755 $X")
        .twin("/fix/script"),
    refused("new-binary/script-interpreter", NEW, "mkdir -p /opt/late; cp $T /opt/late/interpreter")
        .run("/fix/needs-interpreter")
        .path(PathRule::Is("/opt/late/interpreter"))
        .twin("/fix/script"),
    refused(
        "new-binary/path-of-800-bytes",
        NEW,
        "n=$(printf 'n%.0s' $(seq 100)); d=$D/$n/$n/$n/$n/$n/$n/$n/$n; mkdir -p $d; cp $T $d/x",
    )
    .run("n=$(printf 'n%.0s' $(seq 100)); $D/$n/$n/$n/$n/$n/$n/$n/$n/x")
    .twin("$V")
    .path(PathRule::Any),
    refused("new-binary/path-beyond-4096-bytes", NEW, "$P in-deep-folder /bin/busybox cp $T x")
        .run("$P in-deep-folder ./x")
        .twin("$P in-deep-folder $V")
        .path(PathRule::Any),
    // How it is executed.
    refused("new-binary/execveat-in-a-folder", NEW, DROP).run("$P exec-at-dir $X"),
    refused("new-binary/execveat-empty-path", NEW, DROP).run("$P exec-empty-path $X"),
    refused("new-binary/proc-self-fd", NEW, DROP).run("$P exec-proc-fd $X"),
    refused("new-binary/proc-self-fd-of-o-path", NEW, DROP).run("$P exec-opath-fd $X"),
    refused("new-binary/proc-self-root", NEW, DROP).run("/proc/self/root$X"),
    refused("new-binary/proc-self-cwd", NEW, DROP).run("cd ${X%/*}; /proc/self/cwd/${X##*/}"),
    refused("new-binary/relative-path", NEW, DROP).run("cd ${X%/*}; ./${X##*/}"),
    refused("new-binary/posix-spawn", NEW, DROP).run("$P spawn $X"),
    refused("new-binary/fork-and-exec", NEW, DROP).run("$P fork-exec $X"),
    refused("new-binary/from-a-thread", NEW, DROP).run("$P exec-in-thread $X"),
    refused("new-binary/detached-child", NEW, DROP).run("(setsid $X &)"),
    refused("new-binary/replacing-the-shell", NEW, DROP).run("exec $X"),
    // Where from.
    refused("new-binary/as-another-user", NEW, DROP).run("$P as-uid 1000 $X"),
    refused("new-binary/nested-cgroup", NEW, DROP).run("$P in-cgroup ${D##*/} $X"),
    // Tried until the agent has looked at the cgroup.
    refused("new-binary/deeply-nested-cgroup", NEW, DROP)
        .run("for i in $(seq 10); do $P in-cgroup deep$(printf '/n%.0s' $(seq 40)) $X && break; sleep 0.2; done"),
    refused("new-binary/nested-cgroup-named-like-a-pod", NEW, DROP)
        .run("$P in-cgroup pod00000000-0000-0000-0000-00000000000${D#${D%?}}/deeper $X"),
    refused("new-binary/nested-cgroup-50-deep", NEW, DROP).run("$P in-cgroup ${D##*/}$(printf '/d%.0s' $(seq 50)) $X"),
    refused("new-binary/unshare-mount", NEW, DROP).run("$P unshare m $X"),
    refused("new-binary/unshare-user-and-mount", NEW, DROP).run("$P unshare Um $X"),
    refused("new-binary/unshare-user-as-another-user", NEW, DROP).run("$P as-uid 1000 $P unshare Um $X"),
    refused("new-binary/unshare-pid", NEW, DROP).run("$P unshare p $X"),
    refused("new-binary/unshare-everything", NEW, DROP).run("$P unshare UmpniuC $X"),
    refused("new-binary/chroot-into-the-upper-layer", NEW, "mkdir $D/r; cp $T $D/r/x")
        .run("/bin/busybox chroot $D/r /x")
        .path(PathRule::Is("$D/r/x"))
        .twin("/bin/busybox chroot / $V"),
    refused("new-binary/bind-of-its-folder", NEW, "mkdir b; cp $T $X; mount --bind $D $D/b")
        .run("$D/b/x")
        .twin("mkdir b; mount --bind /fix/victim $D/b; $D/b/${V##*/}"),
    refused("new-binary/bind-over-an-image-file", NEW, "cp $T $X; mount --bind $X $V")
        .run("$V")
        .twin("touch $D/t; mount --bind $T $D/t; $D/t"),
    refused("new-binary/bind-of-proc-self-root", NEW, "cp $T $X; mkdir b; mount --bind /proc/self/root$D b")
        .run("$D/b/x")
        .twin("mkdir b; mount --bind /proc/self/root/fix/victim b; b/${V##*/}"),
    refused("new-binary/detached-mount", NEW, DROP).run("$P exec-detached $X"),
    refused("new-binary/runtime-exec-of-a-shell", NEW, DROP).via(Via::RuntimeExec),
    refused("new-binary/runtime-exec-of-the-drop", NEW, DROP).via(Via::RuntimeExecDirect),
];
