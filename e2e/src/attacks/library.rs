//! Drifted files that are mapped, not executed.

use super::case::{Case, PathRule, Profile, Reason, allowed, refused};

const LIBRARY: &[Reason] = &[Reason::DriftedLibrary];

/// Two for each mapping that a case makes.
const HUGE_PAGES: &str = "echo 8 > /proc/sys/vm/nr_hugepages; test $(cat /proc/sys/vm/nr_hugepages) -ge 4";

pub(crate) const CASES: &[Case] = &[
    refused("library/mmap-exec", LIBRARY, "cp $T $X").run("$P mmap-exec $X"),
    refused("library/mmap-shared-exec", LIBRARY, "cp $T $X").run("$P mmap-shared-exec $X"),
    refused("library/mmap-that-implies-exec", LIBRARY, "cp $T $X").run("$P mmap-by-personality $X"),
    refused("library/mprotect-exec", LIBRARY, "cp $T $X").run("$P mprotect-exec $X"),
    refused("library/mprotect-of-a-modified-image-file", LIBRARY, "echo more >> $V")
        .changes_victim()
        .run("$P mprotect-exec $X"),
    // What a failed execve was allowed to run must not stay allowed to be mapped.
    refused("library/written-after-a-failed-exec", LIBRARY, ":")
        .run("$P map-after-failed-exec /fix/no-program $T")
        .path(PathRule::Is("/fix/no-program"))
        .twin("$P mmap-exec $V"),
    refused("library/on-dev-shm", LIBRARY, "mount -o remount,exec /dev/shm; cp $T /dev/shm/${D##*/}")
        .run("$P mmap-exec /dev/shm/${D##*/}")
        .path(PathRule::Any)
        .twin("$P mmap-exec $V"),
    refused("library/memfd", LIBRARY, ":")
        .run("$P memfd-map $T")
        .path(PathRule::Has("memfd:mapped"))
        .twin("$P anonymous-exec"),
    // The names by which the kernel calls its own memory are no excuse.
    refused("library/memfd-mprotect", LIBRARY, ":")
        .run("$P memfd-exec dev/zero small later")
        .path(PathRule::Has("memfd:dev/zero"))
        .twin("$P shared-anonymous-exec"),
    refused("library/memfd-of-huge-pages", LIBRARY, HUGE_PAGES)
        .run("$P memfd-exec anon_hugepage huge at-once")
        .path(PathRule::Has("memfd:anon_hugepage"))
        .twin("$P huge-anonymous-exec"),
    refused("library/memfd-of-huge-pages-mprotect", LIBRARY, HUGE_PAGES)
        .run("$P memfd-exec SYSV00000000 huge later")
        .path(PathRule::Has("memfd:SYSV00000000"))
        .twin("$P huge-anonymous-exec"),
    refused("library/loader-given-shared-memory", LIBRARY, ":")
        .run("$P load-memory anonymous /bin/gcat $LD /fix/token")
        .path(PathRule::Any)
        .twin("$LD /bin/gcat /fix/token"),
    refused("library/loader-given-a-shared-segment", LIBRARY, ":")
        .run("$P load-memory segment /bin/gcat $LD /fix/token")
        .path(PathRule::Any)
        .twin("$LD /bin/gcat /fix/token"),
    refused("library/loader-given-a-program", LIBRARY, "cp /bin/gcat $X")
        .run("$LD $X /fix/token")
        .twin("$LD /bin/gcat /fix/token"),
    refused("library/loader-given-a-program-in-namespaces", LIBRARY, "cp /bin/gcat $X")
        .run("$P unshare Um $LD $X /fix/token")
        .twin("$P unshare Um $LD /bin/gcat /fix/token"),
    refused("library/preload", LIBRARY, "cp $LIBC $D/evil.so")
        .run("LD_PRELOAD=$D/evil.so /bin/gcat /proc/self/maps > maps; grep -q \"r-xp.*evil.so\" maps && echo PAYLOAD-RAN")
        .path(PathRule::Is("$D/evil.so"))
        .twin("LD_PRELOAD=$LIBC /bin/gcat /fix/token"),
    refused("library/library-path", LIBRARY, "mkdir lib; cp $LIBC lib/libc.so.6")
        .run("LD_LIBRARY_PATH=$D/lib /bin/gcat /fix/token")
        .path(PathRule::Is("$D/lib/libc.so.6"))
        .twin("/bin/gcat /fix/token"),
    refused("library/dlopen", LIBRARY, "cp $LIBC $D/plugin.so")
        .run("/bin/gbash -c 'enable -f $0/plugin.so nothing' $D > out 2>&1; cat out; grep -q 'nothing_struct' out && echo PAYLOAD-RAN")
        .path(PathRule::Is("$D/plugin.so"))
        .twin("/bin/gbash -c 'enable -f $0 nothing' $LIBC > out 2>&1; grep -q 'nothing_struct' out && echo PAYLOAD-RAN"),
    // The kernel opens and maps an ELF interpreter itself; bprm_check never sees it.
    refused("library/dropped-elf-interpreter", &[Reason::DriftedLibrary, Reason::NewBinary], "mkdir -p /opt/late; cp $T /opt/late/ld.so")
        .run("/fix/needs-elf-interpreter")
        .path(PathRule::Is("/opt/late/ld.so"))
        .twin("/fix/has-elf-interpreter"),
    refused("library/overwritten-elf-interpreter", &[Reason::DriftedLibrary, Reason::ModifiedBinary], "cat $T > /fix/spare-ld.so")
        .run("/fix/has-spare-elf-interpreter")
        .path(PathRule::Is("/fix/spare-ld.so"))
        .twin("/fix/has-elf-interpreter"),
    allowed("library/anonymous-memory", ":").run("$P anonymous-exec"),
    allowed("library/shared-anonymous-memory", ":").run("$P shared-anonymous-exec"),
    allowed("library/shared-segment", ":").run("$P shmat-exec"),
    allowed("library/anonymous-huge-pages", HUGE_PAGES).run("$P huge-anonymous-exec"),
    allowed("library/image-file", ":").run("$P mmap-exec $V; $P mprotect-exec $V"),
    allowed("library/image-file-after-chmod", "chmod 700 $V").run("$P mmap-exec $V; $P mprotect-exec $V"),
    allowed("library/switched-off", "cp $T $X")
        .profile(Profile::WithoutLibraries)
        .run("$P mmap-exec $X; $P mprotect-exec $X"),
    allowed("library/loader-when-switched-off", "cp /bin/gcat $X")
        .profile(Profile::WithoutLibraries)
        .run("$LD $X /fix/token"),
    refused("library/switched-off-still-refuses-execution", &[Reason::NewBinary], "cp $T $X")
        .profile(Profile::WithoutLibraries),
];
