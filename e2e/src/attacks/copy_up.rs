//! Metadata copy-ups: the image's file with the image's content, in the upper layer.

use super::case::{Between, Case, PathRule, Reason, allowed, eventually_allowed, refused};

const MODIFIED: &[Reason] = &[Reason::ModifiedBinary];
const NEW: &[Reason] = &[Reason::NewBinary];

pub(crate) const CASES: &[Case] = &[
    // Watched: allowed at once.
    allowed("copy-up/chmod", "chmod 700 $V").run("$V"),
    allowed("copy-up/chown", "chown 1000:1000 $V").run("$V"),
    allowed("copy-up/chown-as-an-entrypoint-does", "chown -R 1000:1000 /fix/app")
        .run("$P as-uid 1000 /fix/app/bin/server"),
    allowed("copy-up/rename", "mv $V $X").run("$X"),
    allowed("copy-up/rename-twice", "mv $V $D/y; mv $D/y $X").run("$X"),
    allowed("copy-up/link", "ln $V $X").run("$X; $V"),
    allowed("copy-up/times", "$P utimes $V").run("$V"),
    allowed("copy-up/attribute", "$P setxattr $V").run("$V"),
    allowed("copy-up/access-list", "$P setfacl $V").run("$V"),
    allowed("copy-up/flags", "$P chattr $V").run("$V"),
    allowed("copy-up/several", "chmod 700 $V; chown 1:1 $V; mv $V $X; $P utimes $X; ln $X $D/z; chmod 755 $D/z")
        .run("$D/z"),
    allowed("copy-up/chmod-of-a-sibling-link", "chmod 700 $V.link").run("$V.link; $V"),
    allowed("copy-up/in-a-new-mount-namespace", "$P unshare m chmod 700 $V").run("$V"),
    allowed("copy-up/mapped", "chmod 700 /fix/app/lib/plugin").run("$P mmap-exec /fix/app/lib/plugin"),
    // Proved by comparison.
    eventually_allowed("copy-up/chmod-then-evicted", "chmod 700 $V").run("$V").between(Between::DropCaches),
    eventually_allowed("copy-up/rename-then-evicted", "mv $V $X").run("$X").between(Between::DropCaches),
    // Overlayfs no longer knows what it was, but the image has a file of that name.
    eventually_allowed("copy-up/one-of-two-links-then-evicted", "test -e $V.link; chmod 700 $V")
        .run("$V")
        .between(Between::DropCaches),
    eventually_allowed("copy-up/touched-by-opening", "$P open-touch $V").run("$V"),
    eventually_allowed("copy-up/opened-for-writing", "exec 3<>$V; exec 3>&-").run("$V"),
    eventually_allowed("copy-up/opened-for-writing-then-chmod", "exec 3<>$V; exec 3>&-; chmod 700 $V").run("$V"),
    // Never proved.
    refused("copy-up/written-then-evicted", MODIFIED, "cat $T > $V").changes_victim().between(Between::DropCaches),
    refused("copy-up/written-evicted-chmod", MODIFIED, "cat $T > $V; chmod 700 $V")
        .changes_victim()
        .between(Between::DropCaches)
        .run("chmod 755 $V; $V")
        .twin("$V"),
    refused("copy-up/one-of-two-links-evicted-then-written", NEW, "test -e $V.link; chmod 700 $V")
        .changes_victim()
        .between(Between::DropCaches)
        .run("for i in $(seq 40); do $V && break; sleep 0.2; done > $D/out 2>&1; cat $T > $V; $V")
        .twin("$V"),
    refused("copy-up/new-file-evicted-chmod", &[Reason::NewBinary], "cp $T $X")
        .between(Between::DropCaches)
        .run("chmod 700 $X; $X")
        .twin("$V")
        .path(PathRule::Is("$X")),
    refused(
        "copy-up/written-after-the-proof",
        MODIFIED,
        "$P open-touch $V; for i in $(seq 40); do $V && break; sleep 0.2; done; echo more >> $V",
    )
    .changes_victim(),
];
