//! Prohibited binaries, by every name they have. The list is in `crate::guest::profiles`.
//!
//! Asked for `--help`, busybox answers with its own name: then it ran.

use super::case::{Between, Case, PathRule, Profile, Reason, allowed, refused};

const PROHIBITED: &[Reason] = &[Reason::ProhibitedBinary];
const TWIN_APPLET: &str = "/bin/wc --help 2>&1 | grep -q BusyBox && echo PAYLOAD-RAN";

const fn prohibited(name: &'static str, setup: &'static str) -> Case {
    refused(name, PROHIBITED, setup).profile(Profile::Lists).path(PathRule::Any)
}

const fn applet(name: &'static str, run: &'static str) -> Case {
    prohibited(name, ":").run(run).twin(TWIN_APPLET)
}

pub(crate) const CASES: &[Case] = &[
    prohibited("prohibited/by-path", ":")
        .run("/fix/prohibited/by-path")
        .path(PathRule::Is("/fix/prohibited/by-path"))
        .twin("$V"),
    prohibited("prohibited/renamed", "mv /fix/prohibited/renamed $X").run("$X").twin("$V"),
    prohibited("prohibited/hard-linked", "ln /fix/prohibited/linked $X").run("$X").twin("$V"),
    prohibited("prohibited/symlinked", "ln -s /fix/prohibited/symlinked $X").run("$X").twin("$V"),
    prohibited("prohibited/by-proc-self-fd", ":")
        .run("$P exec-proc-fd /fix/prohibited/by-fd")
        .twin("$P exec-proc-fd $V"),
    prohibited("prohibited/execveat-in-a-folder", ":")
        .run("$P exec-at-dir /fix/prohibited/in-a-folder")
        .twin("$P exec-at-dir $V"),
    prohibited("prohibited/chroot", "mkdir r; mount --bind /fix r")
        .run("/bin/busybox chroot $D/r /prohibited/in-a-chroot")
        .twin("/bin/busybox chroot / $V"),
    prohibited(
        "prohibited/runs-a-renamed-then-copied-up-file",
        "chmod 700 /fix/prohibited/moved; mv /fix/prohibited/moved $X; chmod 755 $X",
    )
    .run("$X")
    .twin("$V"),
    // Modified until it is compared; then the image's, whose path overlayfs has forgotten.
    refused(
        "prohibited/renamed-then-evicted",
        &[Reason::ProhibitedBinary, Reason::ModifiedBinary],
        "mv /fix/prohibited/evicted $X",
    )
        .profile(Profile::Lists)
        .path(PathRule::Any)
        .between(Between::DropCaches)
        .run("$X; sleep 1; $X")
        .twin("$V"),
    applet(
        "prohibited/script-interpreter-applet",
        "printf '#!/bin/nc --help\n' > /vol/$$; chmod 755 /vol/$$; /vol/$$ > out 2>&1; cat out; grep -q BusyBox out && echo PAYLOAD-RAN",
    )
    .twin("printf '#!/bin/wc --help\n' > /vol/$$; chmod 755 /vol/$$; /vol/$$ 2>&1 | grep -q BusyBox && echo PAYLOAD-RAN"),
    applet(
        "prohibited/path-of-3000-bytes",
        "p=$(printf '/.%.0s' $(seq 1500)); $p/bin/nc --help > out 2>&1; cat out; grep -q BusyBox out && echo PAYLOAD-RAN",
    )
    .twin("p=$(printf '/.%.0s' $(seq 1500)); $p/bin/wc --help 2>&1 | grep -q BusyBox && echo PAYLOAD-RAN"),
    applet(
        "prohibited/link-to-the-link",
        "ln -s /bin/nc $D/nc; $D/nc --help > out 2>&1; cat out; grep -q BusyBox out && echo PAYLOAD-RAN",
    ),
    applet(
        "prohibited/busybox-applet",
        "/bin/nc --help 2>&1 | cat > out; cat out; grep -q BusyBox out && echo PAYLOAD-RAN",
    ),
    // `/bin/nc` is a symlink in the test image; `/bin/telnet` and `/bin/tac` are hard links to the same file.
    applet(
        "prohibited/hard-linked-applet",
        "/bin/telnet --help > out 2>&1; cat out; grep -q BusyBox out && echo PAYLOAD-RAN",
    )
    .twin("/bin/tac --help 2>&1 | grep -q BusyBox && echo PAYLOAD-RAN"),
    applet("prohibited/unclean-path", "//bin/./nc --help > out 2>&1; cat out; grep -q BusyBox out && echo PAYLOAD-RAN"),
    applet(
        "prohibited/dot-dot-path",
        "/bin/../bin/nc --help > out 2>&1; cat out; grep -q BusyBox out && echo PAYLOAD-RAN",
    ),
    applet(
        "prohibited/relative-path",
        "o=$D/out; cd /bin; ./nc --help > $o 2>&1; cat $o; grep -q BusyBox $o && echo PAYLOAD-RAN",
    ),
    applet(
        "prohibited/relative-to-another-folder",
        "o=$D/out; cd /fix; ../bin/nc --help > $o 2>&1; cat $o; grep -q BusyBox $o && echo PAYLOAD-RAN",
    ),
    applet(
        "prohibited/through-a-folder-symlink",
        "ln -s /bin $D/b; $D/b/nc --help > out 2>&1; cat out; grep -q BusyBox out && echo PAYLOAD-RAN",
    ),
    prohibited("prohibited/through-the-loader", ":")
        .run("$LD /fix/prohibited/cat /fix/token")
        .path(PathRule::Is("/fix/prohibited/cat"))
        .twin("$LD /bin/gcat /fix/token"),
    allowed("prohibited/other-applets-run", ":").profile(Profile::Lists).run(TWIN_APPLET),
    allowed("prohibited/reading-is-not-executing", ":")
        .profile(Profile::Lists)
        .run("cp /fix/prohibited/by-path $D/y && echo PAYLOAD-RAN"),
];
