//! Files of the image whose content was changed, and what an attacker does to hide it.

use super::case::{Case, PathRule, Reason, refused};

const MODIFIED: &[Reason] = &[Reason::ModifiedBinary];

const fn modified(name: &'static str, setup: &'static str) -> Case {
    refused(name, MODIFIED, setup).changes_victim()
}

pub(crate) const CASES: &[Case] = &[
    modified("modified/written-in-place", "dd if=$T of=$V conv=notrunc 2>/dev/null"),
    modified("modified/last-byte", "printf '#' | dd of=$V bs=1 conv=notrunc seek=$(($(stat -c %s $V)-1)) 2>/dev/null"),
    modified("modified/appended", "echo more >> $V"),
    modified("modified/truncated-and-rewritten", "cat $T > $V"),
    modified("modified/truncated-by-path", "$P truncate-path $V 1"),
    modified("modified/fallocated", "fallocate -l 8192 $V"),
    modified("modified/shared-map", "$P mmap-write $V"),
    modified("modified/shared-map-after-a-chmod-and-a-wait", "$P map-write-late $V 3"),
    modified("modified/mtime-restored", "touch -r $V $D/stamp; cat $T > $V; touch -r $D/stamp $V"),
    modified("modified/opened-before-a-chmod", "$P write-after-chmod $V"),
    modified("modified/by-a-hard-link", "ln $V $D/l; cat $T > $D/l"),
    modified("modified/chmod-afterwards", "cat $T > $V; chmod 700 $V; chmod 755 $V"),
    modified("modified/chown-afterwards", "cat $T > $V; chown 1:1 $V"),
    modified("modified/chmod-beforehand", "chmod 700 $V; $V; chmod 755 $V; $V; echo more >> $V"),
    modified("modified/renamed-afterwards", "cat $T > $V; mv $V $D/moved")
        .run("$D/moved")
        .path(PathRule::Is("$D/moved"))
        .twin("$V"),
    // New, too: on a tmpfs that keeps no trusted.* attributes an overlay forgets which file of the image is behind a link.
    refused("modified/linked-afterwards", &[Reason::ModifiedBinary, Reason::NewBinary], "cat $T > $V; ln $V $D/l")
        .changes_victim()
        .run("$D/l")
        .path(PathRule::Any)
        .twin("$V"),
    modified("modified/chmod-of-a-sibling-link", "cat $T > $V; chmod 700 $V.link; $V.link"),
    modified("modified/by-a-detached-writer", "(setsid sh -c \"echo more >> $V\" &); sleep 1"),
    modified("modified/in-a-new-mount-namespace", "$P unshare m sh -c \"cat $T > $V\""),
    modified("modified/through-a-bind-mount", "touch b; mount --bind $V b; cat $T > b; umount b"),
];
