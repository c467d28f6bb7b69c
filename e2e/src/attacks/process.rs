//! Programs that may execute what drifted, programs that may execute nothing, and patterns. The lists are in `crate::guest::profiles`.
//!
//! The programs are copies of busybox whose names begin with `busybox`: given `env`, they execute what follows themselves.

use super::case::{Case, PathRule, Profile, Reason, allowed, refused};

const NEW: &[Reason] = &[Reason::NewBinary];
const PROCESS: &[Reason] = &[Reason::ProhibitedProcess];
const PROHIBITED: &[Reason] = &[Reason::ProhibitedBinary];
const DROP: &str = "cp $T $X";

/// Runs what was dropped by a program that may not.
const fn not_excepted(name: &'static str, setup: &'static str) -> Case {
    refused(name, NEW, setup).profile(Profile::Processes).twin("/bin/busybox env $V")
}

const fn may(name: &'static str, setup: &'static str) -> Case {
    allowed(name, setup).profile(Profile::Processes)
}

const fn may_not(name: &'static str, setup: &'static str) -> Case {
    refused(name, PROCESS, setup).profile(Profile::Processes).path(PathRule::Is("$V")).twin("/bin/busybox env $V")
}

pub(crate) const CASES: &[Case] = &[
    may("process/excepted-runs-what-it-dropped", DROP).run("/fix/process/busybox-updater env $X"),
    may("process/excepted-runs-it-in-a-child", DROP).run("/fix/process/busybox-updater sh -c '$X; true'"),
    may("process/excepted-by-a-pattern", DROP).run("/fix/process/vendor/one/busybox-tool env $X"),
    // It is its file in the image that is excepted.
    may("process/excepted-and-renamed", "cp $T $X; mv /fix/process/busybox-renamed $D/busybox-r").run("$D/busybox-r env $X"),
    may("process/excepted-and-chmodded", "cp $T $X; chmod 700 /fix/process/busybox-chmodded")
        .run("/fix/process/busybox-chmodded env $X"),
    not_excepted("process/others-may-not", DROP).run("/bin/busybox env $X"),
    not_excepted("process/beside-the-pattern", DROP).run("/fix/process/vendor/one/two/busybox-tool env $X"),
    not_excepted("process/what-it-executed-may-not", DROP).run("/fix/process/busybox-updater env /bin/busybox env $X"),
    not_excepted("process/argv0", DROP).run("/bin/gbash -c 'exec -a /fix/process/busybox-updater /bin/busybox env $X'"),
    // From Linux 6.8 on a program on an overlay may have the kernel call itself another.
    not_excepted("process/forged-by-prctl", DROP).run("$P as-program /fix/process/busybox-updater $X"),
    not_excepted("process/forged-by-prctl-in-a-user-namespace", "cp $T $X; chmod 755 $D $X")
        .run("$P as-uid 1000 $P unshare U $P as-program /fix/process/busybox-updater $X"),
    not_excepted("process/by-a-symlink-there", "cp $T $X; mkdir -p /opt/agent; ln -sf /bin/busybox /opt/agent/busybox-linked")
        .run("/opt/agent/busybox-linked env $X"),
    // Both may themselves run, by an exception; they gain nothing else.
    not_excepted("process/a-copy-there", "cp $T $X; mkdir -p /opt/agent; rm -f /opt/agent/busybox-new; cp /bin/busybox /opt/agent/busybox-new")
        .run("/opt/agent/busybox-new env $X"),
    not_excepted("process/overwritten", "cp $T $X; cat /bin/busybox > /fix/process/busybox-overwritten")
        .run("/fix/process/busybox-overwritten env $X"),
    not_excepted("process/another-of-the-image-renamed-there", "cp $T $X; mkdir -p /opt/agent; mv /fix/process/busybox-other /opt/agent/busybox-moved")
        .run("/opt/agent/busybox-moved env $X"),
    not_excepted("process/another-of-the-image-linked-there", "cp $T $X; mkdir -p /opt/agent; ln -f /fix/process/busybox-spare /opt/agent/busybox-hard")
        .run("/opt/agent/busybox-hard env $X"),
    not_excepted("process/bind-mounted-there", "cp $T $X; mount --bind /bin/busybox /fix/process/busybox-bound")
        .run("/fix/process/busybox-bound env $X"),
    not_excepted(
        "process/forged-by-chroot",
        "mkdir -p r/fix/process; : > r/fix/process/busybox-updater; mount --bind /bin/busybox r/fix/process/busybox-updater; cp $T r/x",
    )
    .run("/bin/busybox chroot $D/r /fix/process/busybox-updater env /x")
    .path(PathRule::Is("$D/r/x")),
    not_excepted(
        "process/forged-in-a-user-namespace",
        "mkdir -p r/fix/process; : > r/fix/process/busybox-updater; cp $T r/x; chmod -R 777 r",
    )
    .run("$P as-uid 1000 $P unshare Um /bin/sh -c 'mount --bind /bin/busybox $D/r/fix/process/busybox-updater; /bin/busybox chroot $D/r /fix/process/busybox-updater env /x'")
    .path(PathRule::Is("$D/r/x")),
    may_not("process/prohibited-executes", ":").run("/fix/process/busybox-server env $V"),
    may_not("process/prohibited-executes-in-a-child", ":").run("/fix/process/busybox-server sh -c '$V; true'"),
    may_not("process/prohibited-and-renamed", "mv /fix/process/busybox-served $D/busybox-s").run("$D/busybox-s env $V"),
    may_not("process/prohibited-argv0", ":").run("/bin/gbash -c 'exec -a /bin/busybox /fix/process/busybox-server env $V'"),
    may_not("process/prohibited-in-a-chroot", "mkdir r; mount --rbind / r")
        .run("/bin/busybox chroot $D/r /fix/process/busybox-server env $V"),
    // The shell is the image's; what is told is the program that was to run.
    may_not("process/prohibited-starts-a-shell", ":")
        .run("/fix/process/busybox-server env /bin/busybox echo PAYLOAD-RAN")
        .path(PathRule::Is("/bin/busybox"))
        .twin("/bin/busybox env /bin/busybox echo PAYLOAD-RAN"),
    may("process/prohibited-itself-runs", ":").run("/fix/process/busybox-server echo PAYLOAD-RAN"),
    may("pattern/excepted-below", "mkdir -p /opt/vendor/a/b; rm -f /opt/vendor/a/b/tool; cp $T /opt/vendor/a/b/tool")
        .run("/opt/vendor/a/b/tool"),
    may("pattern/excepted-library-maps", "mkdir -p /opt/vendor; rm -f /opt/vendor/lib; cp $T /opt/vendor/lib")
        .run("$P mmap-exec /opt/vendor/lib"),
    may("pattern/excepted-in-one-folder", "mkdir -p /tmp/one; rm -f /tmp/one/tool; cp $T /tmp/one/tool").run("/tmp/one/tool"),
    refused("pattern/a-neighbour", NEW, "mkdir -p /opt/vendor2; cp $T /opt/vendor2/tool")
        .profile(Profile::Processes)
        .run("/opt/vendor2/tool")
        .path(PathRule::Is("/opt/vendor2/tool"))
        .twin("$V"),
    refused("pattern/deeper", NEW, "mkdir -p /tmp/one/two; cp $T /tmp/one/two/tool")
        .profile(Profile::Processes)
        .run("/tmp/one/two/tool")
        .path(PathRule::Is("/tmp/one/two/tool"))
        .twin("$V"),
    refused("pattern/forged-by-a-bind-mount", NEW, "cp $T $X; mkdir -p /opt/vendor; : > /opt/vendor/bound; mount --bind $X /opt/vendor/bound")
        .profile(Profile::Processes)
        .run("/opt/vendor/bound")
        .twin("$V"),
    refused("pattern/prohibited", PROHIBITED, ":")
        .profile(Profile::Processes)
        .run("/fix/prohibited/python3.11")
        .path(PathRule::Is("/fix/prohibited/python3.11"))
        .twin("/fix/prohibited/python3-config"),
    refused("pattern/prohibited-and-renamed", PROHIBITED, "mv /fix/prohibited/python3.12 $X")
        .profile(Profile::Processes)
        .twin("$V"),
    // `/bin/fallocate` is a link to busybox.
    refused("pattern/prohibited-applet", PROHIBITED, ":")
        .profile(Profile::Processes)
        .run("/bin/fallocate --help > out 2>&1; cat out; grep -q BusyBox out && echo PAYLOAD-RAN")
        .path(PathRule::Any)
        .twin("/bin/wc --help 2>&1 | grep -q BusyBox && echo PAYLOAD-RAN"),
    refused("pattern/prohibited-applet-by-an-unclean-path", PROHIBITED, ":")
        .profile(Profile::Processes)
        .run("//bin/./fallocate --help > out 2>&1; cat out; grep -q BusyBox out && echo PAYLOAD-RAN")
        .path(PathRule::Any)
        .twin("//bin/./wc --help 2>&1 | grep -q BusyBox && echo PAYLOAD-RAN"),
];
