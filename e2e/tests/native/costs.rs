//! What `Kill` and `Fanotify` cost an exec by this machine's clock. It measures, and demands nothing.

use std::collections::BTreeMap;

use serde_json::json;

use crate::rig::{Container, Rig};

/// Where the numbers go.
const OUT: &str = "MOORING_BENCH_OUT";
/// Each number is the least of so many middles: whatever else runs on the machine only adds to it.
const ROUNDS: usize = 5;
const SAMPLES: &str = "1000";

/// Nanoseconds of one exec, from `posix_spawn` until it is waited for.
fn exec(container: &Container, what: &str, path: &str) -> f64 {
    let middle = || {
        let output = container.execute(&["/bin/probe", "measure", what, path, SAMPLES]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let p50 = text.lines().find_map(|line| line.strip_prefix("p50 ")?.parse::<f64>().ok());
        p50.unwrap_or_else(|| panic!("{output:?}"))
    };
    (0..ROUNDS).map(|_| middle()).fold(f64::INFINITY, f64::min)
}

#[test]
#[ignore = "measures; needs root, and packages from Debian's archive"]
fn costs() {
    let out = std::env::var_os(OUT).expect("MOORING_BENCH_OUT says where the numbers go");
    let mut numbers = BTreeMap::new();
    for (backend, how) in [("Kill", "killing"), ("Fanotify", "asking")] {
        let mut rig = Rig::new();
        let without = rig.container("mooring-native-before");
        numbers.insert(format!("native-exec-ns without-{how}"), exec(&without, "spawn", "/bin/nothing"));
        drop(without);
        let (enforcer, after) = rig.protecting(backend);
        numbers.insert(format!("native-exec-ns {how}"), exec(&after, "spawn", "/bin/nothing"));
        if backend == "Fanotify" {
            numbers.insert(format!("native-refused-ns {how}"), exec(&after, "refused", "/dropped"));
        }
        drop(after);
        let other = rig.container("mooring-native-apart");
        numbers.insert(format!("native-untracked-ns {how}"), exec(&other, "spawn", "/bin/nothing"));
        drop(enforcer);
    }
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let text = json!({"kernel": kernel.trim(), "numbers": numbers}).to_string();
    println!("{text}");
    std::fs::write(out, text).unwrap();
}
