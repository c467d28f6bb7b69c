//! From what a bundle says of its cgroup to the cgroup, and back.
//!
//! Rules, as runc, crun and youki follow them: an absolute `cgroupsPath` lies below the mount; a relative one below a parent
//! that depends on where the runtime runs; `slice:prefix:name` is a unit of systemd (or, with the cgroupfs driver, a
//! folder literally so named); none at all is the container's id, as a folder or as a scope.

/// Path components without `.`, and with `..` taken back, never above `/`.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Whether a container with this `cgroupsPath` and id lives in this cgroup.
pub(super) fn fits(cgroups_path: Option<&str>, id: &str, cgroup: &str) -> bool {
    let leaf = leaf(cgroup);
    let Some(declared) = cgroups_path else {
        return leaf == id || leaf.strip_suffix(".scope").is_some_and(|unit| unit_is(unit, id));
    };
    if declared.starts_with('/') {
        return clean(declared) == cgroup;
    }
    if let Some(unit) = systemd_path(declared)
        && (cgroup == unit || cgroup.ends_with(&unit))
    {
        return true;
    }
    cgroup.ends_with(&clean(declared))
}

/// `runc-<id>`, `crun-<id>`, `<id>`: the default scopes of the runtimes.
fn unit_is(unit: &str, id: &str) -> bool {
    unit == id
        || unit.strip_suffix(id).is_some_and(|prefix| matches!(prefix, "-" | "runc-" | "crun-" | "youki-" | "libcrun-"))
}

/// Where a container with this `cgroupsPath` and id would be, likeliest first; for a scan.
pub(super) fn likely(cgroups_path: Option<&str>, id: &str) -> Vec<String> {
    let Some(declared) = cgroups_path else {
        return vec![
            format!("/{id}"),
            format!("/system.slice/runc-{id}.scope"),
            format!("/system.slice/crun-{id}.scope"),
        ];
    };
    systemd_path(declared).into_iter().chain([clean(declared)]).collect()
}

/// The cgroup of a systemd unit written as `slice:prefix:name`.
fn systemd_path(declared: &str) -> Option<String> {
    let mut parts = declared.split(':');
    let (slice, prefix, name) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || name.is_empty() || declared.contains('/') {
        return None;
    }
    let unit = match (name.strip_suffix(".slice").is_some(), prefix) {
        (true, _) => name.to_owned(),
        (false, "") => format!("{name}.scope"),
        (false, prefix) => format!("{prefix}-{name}.scope"),
    };
    Some(format!("{}/{unit}", slice_path(slice)?))
}

/// systemd nests slices by the dashes of their names: `a-b.slice` is `/a.slice/a-b.slice`.
fn slice_path(slice: &str) -> Option<String> {
    match slice {
        "" => return Some("/system.slice".to_owned()),
        "-.slice" | "-" => return Some(String::new()),
        _ => {}
    }
    let name = slice.strip_suffix(".slice")?;
    let mut path = String::new();
    for (end, _) in name.match_indices('-').chain([(name.len(), "")]) {
        let part = name.get(..end).filter(|part| !part.is_empty() && !part.ends_with('-'))?;
        path.push('/');
        path.push_str(part);
        path.push_str(".slice");
    }
    Some(path)
}

/// The last component.
pub(super) fn leaf(cgroup: &str) -> &str {
    cgroup.rsplit('/').next().unwrap_or_default()
}

/// Container ids that a cgroup's name may hold, likeliest first; none for the units that systemd makes all day.
pub(super) fn candidate_ids(cgroup: &str) -> Vec<&str> {
    /// Ids contain dashes, prefixes too; more would be guessing.
    const SPLITS_MAX: usize = 6;
    let leaf = leaf(cgroup);
    if let Some((_, name)) = leaf.rsplit_once(':') {
        return Some(name).into_iter().filter(|id| is_id(id)).collect();
    }
    if [".service", ".mount", ".socket", ".slice", ".swap", ".timer"].iter().any(|unit| leaf.ends_with(unit)) {
        return Vec::new();
    }
    let Some(unit) = leaf.strip_suffix(".scope") else {
        // Podman's cgroupfs driver: `libpod-<id>`.
        return [Some(leaf), leaf.strip_prefix("libpod-")].into_iter().flatten().filter(|id| is_id(id)).collect();
    };
    let suffixes = unit.match_indices('-').take(SPLITS_MAX).filter_map(|(at, _)| unit.get(at + 1..));
    suffixes.chain([unit]).filter(|id| is_id(id)).collect()
}

/// What runc and containerd accept as an id, so that it is safe as one path component.
pub(super) fn is_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= 255
        && !matches!(id, "." | "..")
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'+' | b'-'))
}
