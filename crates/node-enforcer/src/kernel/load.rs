//! Loading, attaching, handing over.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{Link, MapCore, MapFlags, MapHandle, OpenObject, ProgramAttachType, ProgramMut};
use mooring_bpf::hooks::{self, Attachment};
use mooring_bpf::wire::{
    self, NAME_LEN, SCRATCH_SLOTS_PER_CPU, Wire, container, container_flag, control, volume, volume_key,
};
use mooring_bpf::{MooringSkel, MooringSkelBuilder, OpenMooringSkel};

use mooring_policy::{ListPath, PathMasks};

use super::KernelError;
use super::pins::Pins;
use super::tables::{self, Members, Tables};
use crate::containers::{self, Container, FileId};

/// Maps that belong to one load and are not handed over.
const UNPINNED_MAPS: [&str; 4] = ["scratches", "claimed_scratches", "verdict_cases", "verdicts"];

/// The program without which nobody sees files change.
const WATCHES_FILES: &str = "mooring_file_open";

/// How the programs are loaded.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Where links and maps outlive the agent; `None` for a load that ends with its process.
    pub pins: Option<Pins>,
    /// Load the program, too, that compares the kernel's verdict with the pure one. 5.10 warns in its log of one of its type that
    /// uses tables like ours, so nodes are spared it.
    pub comparison: bool,
    /// What the programs are attached to.
    pub attachment: Attachment,
}

/// What the programs counted (`enum counter`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Violations whose first report found the ring buffer full.
    pub lost_reports: u64,
    /// Reports of cgroups and comparisons that found theirs full.
    pub lost_lifecycle: u64,
    /// Files whose names could not be found out: judged strictly.
    pub unresolved_names: u64,
    /// Containers that the table had no room for.
    pub containers_full: u64,
}

/// The loaded and attached programs. They decide nothing until the first [`Kernel::enforce`].
pub struct Kernel {
    skeleton: MooringSkel<'static>,
    pins: Option<Pins>,
    instance: u16,
    relieved: u16,
    half: u32,
    took_over: bool,
    kills: bool,
    // Dropping a link that is not pinned detaches its program.
    _links: Vec<Link>,
}

impl Kernel {
    /// Loads the programs beside whatever instance is in force, with the maps that it pinned, and attaches them.
    ///
    /// # Errors
    /// [`KernelError::Unsupported`] names what this kernel lacks; other errors name the step that failed.
    pub fn load(options: &LoadOptions) -> Result<Self, KernelError> {
        let before = options.pins.as_ref().and_then(control_in_force);
        if let (Some(pins), None) = (&options.pins, &before) {
            pins.forget_maps()?;
        }
        let instance = next_instance(options.pins.as_ref(), before.as_ref())?;
        let storage: &'static mut MaybeUninit<OpenObject> = Box::leak(Box::new(MaybeUninit::uninit()));
        let mut open = MooringSkelBuilder::default().open(storage).map_err(KernelError::bpf("open the programs"))?;
        configure(&mut open, instance, options.attachment)?;
        open.progs.mooring_verdict.set_autoload(options.comparison);
        if let Some(pins) = &options.pins {
            reuse_pinned_maps(&mut open, pins)?;
        }
        let mut skeleton = open.load().map_err(KernelError::bpf("load the programs"))?;
        if let Some(pins) = &options.pins {
            pin_new_maps(&mut skeleton, pins)?;
        }
        let watches = options.attachment != Attachment::ExecTracepoints;
        if let (true, Some(pins), Some(before)) = (watches, &options.pins, &before)
            && !pins.links_of(before.instance).join(WATCHES_FILES).exists()
        {
            forget_clean_marks(&skeleton)?;
        }
        let links = attach(&mut skeleton, options.pins.as_ref(), instance)?;
        Ok(Self {
            skeleton,
            pins: options.pins.clone(),
            instance,
            relieved: before.map_or(0, |control| control.instance),
            half: before.map_or(1, |control| control.tables),
            took_over: false,
            kills: options.attachment == Attachment::ExecTracepoints,
            _links: links,
        })
    }

    /// Whether nothing was in force when this was loaded.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.relieved == 0
    }

    /// Whether the programs refuse nothing and kill instead.
    #[must_use]
    pub fn kills(&self) -> bool {
        self.kills
    }

    /// Takes this load down again; what was in force before it stays.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub fn withdraw(self) -> Result<(), KernelError> {
        match &self.pins {
            Some(pins) if self.is_in_force()? => pins.withdraw(),
            Some(pins) => pins.keep_only(self.relieved),
            None => Ok(()),
        }
    }

    /// Fills the tables that are not in force and switches to them, and to this load, with one write.
    ///
    /// # Errors
    /// When a table cannot be made; what was in force stays in force.
    pub fn enforce(&mut self, tables: &Tables, members: &Members) -> Result<(), KernelError> {
        let half = 1 - (self.half & 1);
        let maps = &self.skeleton.maps;
        let rules = tables::new_rules_table(&tables.rules)?;
        let paths = tables::new_paths_table(&tables.paths)?;
        let member_table = tables::new_members_table(members)?;
        set_inner(&maps.rules_tables, half, &rules)?;
        set_inner(&maps.paths_tables, half, &paths)?;
        set_inner(&maps.members_tables, half, &member_table)?;
        let now = control { instance: self.instance, relieved: self.relieved, tables: half };
        maps.control
            .update(&0_u32.to_ne_bytes(), now.as_bytes(), MapFlags::ANY)
            .map_err(KernelError::bpf("switch the tables"))?;
        self.half = half;
        // Afterwards an error always means that what was in force stays so.
        if let (false, Some(pins)) = (std::mem::replace(&mut self.took_over, true), &self.pins) {
            pins.keep_only(self.instance)?;
        }
        Ok(())
    }

    /// Takes down what agents of another wire version have in force: once every container is entered here.
    ///
    /// # Errors
    /// When one cannot be taken down: it goes on deciding beside this load.
    pub fn retire_other_versions(&self) -> Result<(), KernelError> {
        let Some(pins) = &self.pins else { return Ok(()) };
        pins.retire_other_versions(&self.skeleton.maps.fresh_cgroups)
    }

    /// Enters a container, so that its rules are in force. `started` is its start in seconds of the epoch. Volumes and mask first: the programs look for the container first.
    ///
    /// # Errors
    /// When the tables are full: the container is then unprotected, takes no room, and the caller counts it.
    pub fn enter(&self, it: &Container, member: u64, started: u64) -> Result<(), KernelError> {
        let entered = self.try_to_enter(it, member, started);
        if entered.is_err() && !self.is_entered(it.cgroup_id) {
            self.forget(it);
            if let Ok(members) = self.inner_in_force(&self.skeleton.maps.members_tables) {
                // Not there is as good as deleted.
                let _ = members.delete(&it.cgroup_id.to_ne_bytes());
            }
        }
        entered
    }

    /// Whether the programs know this cgroup as a container's.
    fn is_entered(&self, cgroup: u64) -> bool {
        self.skeleton.maps.containers.lookup(&cgroup.to_ne_bytes(), MapFlags::ANY).is_ok_and(|facts| facts.is_some())
    }

    fn try_to_enter(&self, it: &Container, member: u64, started: u64) -> Result<(), KernelError> {
        for entry in &it.volumes {
            let Some(FileId { dev, ino: inode }) = entry.file else { continue };
            let mut value = volume { destination: [0; NAME_LEN], destination_len: 0, zero: 0 };
            if let Some(key) = wire::path_key_of(entry.destination.as_bytes()) {
                value.destination = key.bytes;
                value.destination_len = u32::try_from(entry.destination.len()).unwrap_or(0);
            }
            for inode in [inode, 0] {
                let key = volume_key { container: it.cgroup_id, inode, dev, zero: 0 };
                self.skeleton
                    .maps
                    .volumes
                    .update(key.as_bytes(), value.as_bytes(), MapFlags::ANY)
                    .map_err(KernelError::bpf(format!("enter volume {} of container {}", entry.destination, it.id)))?;
            }
        }
        self.set_member(it.cgroup_id, member)?;
        let facts = container {
            root_inode: it.root.ino,
            started,
            root_dev: it.root.dev,
            flags: if it.root.overlay { container_flag::CONTAINER_ROOT_OVERLAY.0 } else { 0 },
        };
        self.skeleton
            .maps
            .containers
            .update(&it.cgroup_id.to_ne_bytes(), facts.as_bytes(), MapFlags::ANY)
            .map_err(KernelError::bpf(format!("enter container {}", it.id)))
    }

    /// Sets a container's mask in the tables in force.
    ///
    /// # Errors
    /// When the table is full.
    pub fn set_member(&self, cgroup: u64, member: u64) -> Result<(), KernelError> {
        let table = self.inner_in_force(&self.skeleton.maps.members_tables)?;
        table
            .update(&cgroup.to_ne_bytes(), &member.to_ne_bytes(), MapFlags::ANY)
            .map_err(KernelError::bpf(format!("set the policies of cgroup {cgroup}")))
    }

    /// Adds a path to the lists in force.
    ///
    /// # Errors
    /// When the table is full.
    pub fn set_path(&self, path: &ListPath, masks: PathMasks) -> Result<(), KernelError> {
        let (Some(key), rule) = (wire::path_key_of(path.as_bytes()), tables::path_rule_of(masks)) else {
            return Ok(());
        };
        let table = self.inner_in_force(&self.skeleton.maps.paths_tables)?;
        table
            .update(key.as_bytes(), rule.as_bytes(), MapFlags::ANY)
            .map_err(KernelError::bpf(format!("add {path} to the lists")))
    }

    /// Whether this load decides, and no other.
    ///
    /// # Errors
    /// When the control word cannot be read.
    pub fn is_in_force(&self) -> Result<bool, KernelError> {
        let control = &self.skeleton.maps.control;
        let bytes =
            control.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY).map_err(KernelError::bpf("read the control word"))?;
        Ok(bytes.and_then(|bytes| control::from_bytes(&bytes)).is_some_and(|now| now.instance == self.instance))
    }

    /// What the programs counted since the first of them was loaded.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn counters(&self) -> Result<Counters, KernelError> {
        let total = |counter: wire::counter| {
            let cpus = self
                .skeleton
                .maps
                .counters
                .lookup_percpu(&counter.0.to_ne_bytes(), MapFlags::ANY)
                .map_err(KernelError::bpf("read the counters"))?;
            let words = cpus.into_iter().flatten().filter_map(|bytes| bytes.try_into().ok().map(u64::from_ne_bytes));
            Ok::<u64, KernelError>(words.sum())
        };
        Ok(Counters {
            lost_reports: total(wire::counter::COUNTER_LOST_REPORTS)?,
            lost_lifecycle: total(wire::counter::COUNTER_LOST_LIFECYCLE)?,
            unresolved_names: total(wire::counter::COUNTER_UNRESOLVED_NAMES)?,
            containers_full: total(wire::counter::COUNTER_CONTAINERS_FULL)?,
        })
    }

    /// The mask that a cgroup has in the tables in force.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn member(&self, cgroup: u64) -> Result<Option<u64>, KernelError> {
        let table = self.inner_in_force(&self.skeleton.maps.members_tables)?;
        let bytes = table
            .lookup(&cgroup.to_ne_bytes(), MapFlags::ANY)
            .map_err(KernelError::bpf(format!("read the policies of cgroup {cgroup}")))?;
        Ok(bytes.and_then(|bytes| bytes.try_into().ok()).map(u64::from_ne_bytes))
    }

    /// What is left of a container whose cgroup is gone.
    pub fn forget(&self, it: &Container) {
        for entry in &it.volumes {
            let Some(FileId { dev, ino: inode }) = entry.file else { continue };
            for inode in [inode, 0] {
                let key = volume_key { container: it.cgroup_id, inode, dev, zero: 0 };
                // Not there is as good as deleted.
                let _ = self.skeleton.maps.volumes.delete(key.as_bytes());
            }
        }
    }

    /// The number of this load.
    #[must_use]
    pub fn instance(&self) -> u16 {
        self.instance
    }

    /// Cgroups that are in the tables, the unknown ones included.
    #[must_use]
    pub fn entered(&self) -> Vec<u64> {
        let keys = self.skeleton.maps.containers.keys();
        keys.filter_map(|key| key.try_into().ok().map(u64::from_ne_bytes)).collect()
    }

    /// The loaded programs and their maps.
    #[must_use]
    pub fn skeleton(&self) -> &MooringSkel<'static> {
        &self.skeleton
    }

    fn inner_in_force(&self, outer: &impl MapCore) -> Result<MapHandle, KernelError> {
        let id = outer
            .lookup(&self.half.to_ne_bytes(), MapFlags::ANY)
            .map_err(KernelError::bpf("find the table in force"))?
            .and_then(|bytes| bytes.try_into().ok())
            .map(u32::from_ne_bytes)
            .ok_or_else(|| KernelError::Unsupported {
                missing: "no table is in force".into(),
                fix: "enforce a rule set before containers are entered".into(),
            })?;
        MapHandle::from_map_id(id).map_err(KernelError::bpf("open the table in force"))
    }
}

/// A file may have been written under its mark while programs were in force that do not watch files.
fn forget_clean_marks(skeleton: &MooringSkel<'_>) -> Result<(), KernelError> {
    let marks = &skeleton.maps.clean_marks;
    let known: Vec<_> = marks.keys().collect();
    for key in known {
        // Not there is as good as deleted.
        let _ = marks.delete(&key);
    }
    if marks.keys().next().is_none() {
        Ok(())
    } else {
        Err(KernelError::Unsupported {
            missing: "marks of files that nobody watches any more cannot be deleted".into(),
            fix: "take everything down with `mooring-enforcer release`, and start anew".into(),
        })
    }
}

fn set_inner(outer: &impl MapCore, half: u32, inner: &MapHandle) -> Result<(), KernelError> {
    outer
        .update(&half.to_ne_bytes(), &inner.as_fd().as_raw_fd().to_ne_bytes(), MapFlags::ANY)
        .map_err(KernelError::bpf("put a filled table in its place"))
}

fn configure(open: &mut OpenMooringSkel<'_>, instance: u16, attachment: Attachment) -> Result<(), KernelError> {
    let (host_root, host_mount_namespace) = containers::host_root_and_namespace()?;
    let slots = cpus() * SCRATCH_SLOTS_PER_CPU;
    if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
        rodata.instance = instance.into();
        rodata.host_mount_namespace = host_mount_namespace;
        rodata.host_root_dev = host_root.dev;
        rodata.host_root_inode = host_root.ino;
        rodata.scratch_slots = slots;
    }
    let missing = |error: hooks::MissingHook| KernelError::Unsupported {
        missing: format!("this kernel has no {}", error.missing),
        fix: "run a kernel built with CONFIG_DEBUG_INFO_BTF=y, CONFIG_SECURITY=y and CONFIG_BPF_LSM=y".into(),
    };
    hooks::configure(open, attachment).map_err(missing)?;
    let hierarchy = containers::Hierarchy::of_host()?;
    if let Some((number, controller)) = &hierarchy.controller {
        hooks::use_hierarchy(open, *number, controller).map_err(missing)?;
    }
    open.maps.scratches.set_max_entries(slots).map_err(KernelError::bpf("size the scratch buffers"))
}

/// CPUs that can ever be online: a program runs on any of them.
fn cpus() -> u32 {
    libbpf_rs::num_possible_cpus().ok().and_then(|cpus| u32::try_from(cpus).ok()).unwrap_or(1)
}

/// The control word, if programs that it names are still attached.
fn control_in_force(pins: &Pins) -> Option<control> {
    let map = MapHandle::from_pinned_path(pins.maps().join("control")).ok()?;
    let control = control::from_bytes(&map.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY).ok()??)?;
    let links = fs::read_dir(pins.links_of(control.instance)).ok()?;
    (control.instance != 0 && links.count() > 0).then_some(control)
}

/// Above the instance in force. Links that others have left behind are taken away first.
fn next_instance(pins: Option<&Pins>, before: Option<&control>) -> Result<u16, KernelError> {
    let in_force = before.map_or(0, |control| control.instance);
    let Some(pins) = pins else { return Ok(above(in_force)) };
    // What a crash left half attached never decided anything.
    pins.keep_only(in_force)?;
    Ok(above(in_force))
}

/// 0 is nobody's.
fn above(instance: u16) -> u16 {
    instance.checked_add(1).unwrap_or(1)
}

/// A name with a dot is a section's (`mooring_.rodata`, or `.rodata.cst32`, which the compiler makes of a constant that it copies): what is in
/// it is that load's own, and the file system of pins takes no such name.
fn is_handed_over(map: &str) -> bool {
    !map.contains('.') && !UNPINNED_MAPS.contains(&map)
}

fn reuse_pinned_maps(open: &mut OpenMooringSkel<'_>, pins: &Pins) -> Result<(), KernelError> {
    for mut map in open.open_object_mut().maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        let path = pins.maps().join(&name);
        if !is_handed_over(&name) || !path.exists() {
            continue;
        }
        map.reuse_pinned_map(&path)
            .map_err(KernelError::bpf(format!("take over the pinned map {}", path.display())))?;
    }
    Ok(())
}

fn pin_new_maps(skeleton: &mut MooringSkel<'_>, pins: &Pins) -> Result<(), KernelError> {
    for mut map in skeleton.object_mut().maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        let path = pins.maps().join(&name);
        if !is_handed_over(&name) || path.exists() {
            continue;
        }
        map.pin(&path).map_err(KernelError::bpf(format!("pin map {}", path.display())))?;
    }
    Ok(())
}

/// libbpf knows by itself only how to attach what is still what its section says.
fn attach_one(program: &ProgramMut<'_>) -> libbpf_rs::Result<Link> {
    match program.attach_type() {
        ProgramAttachType::ModifyReturn | ProgramAttachType::TraceFentry => program.attach_trace(),
        _ => program.attach(),
    }
}

fn attach(skeleton: &mut MooringSkel<'_>, pins: Option<&Pins>, instance: u16) -> Result<Vec<Link>, KernelError> {
    let folder = pins.map(|pins| pins.links_of(instance));
    if let Some(folder) = &folder {
        fs::create_dir_all(folder).map_err(|error| KernelError::pins(folder, error))?;
    }
    let mut links = Vec::new();
    for program in skeleton.object_mut().progs_mut() {
        let name = program.name().to_string_lossy().into_owned();
        // Run on demand, never attached; or of a hook that this kernel lacks.
        if matches!(name.as_str(), "mooring_prove" | "mooring_verdict") || !program.autoload() {
            continue;
        }
        let mut link = attach_one(&program).map_err(KernelError::bpf(format!("attach {name}")))?;
        if let Some(folder) = &folder {
            let path = folder.join(&name);
            link.pin(&path).map_err(KernelError::bpf(format!("pin {}", path.display())))?;
        }
        links.push(link);
    }
    Ok(links)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_compiler_makes_is_not_handed_over() {
        for (map, handed_over) in [
            ("containers", true),
            ("control", true),
            ("scratches", false),
            ("mooring_.rodata", false),
            (".rodata.cst32", false),
            ("mooring_.bss", false),
        ] {
            assert_eq!(is_handed_over(map), handed_over, "{map}");
        }
    }
}
