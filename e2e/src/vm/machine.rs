//! QEMU's command line: what a guest is made of. Pure, so that it can be tested.

use std::path::{Path, PathBuf};

/// The LSM list that makes BPF LSM active on every kernel of the matrix; 5.10 does not ship it so.
pub const LSM_WITH_BPF: &str = "lockdown,capability,landlock,yama,apparmor,bpf";

/// What a guest says over which port of its virtio console; ports are numbered from 1 in this order.
pub const PORTS: [&str; 4] = ["status", "stdout", "stderr", "out"];

/// What distinguishes one guest from another.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// Memory in MiB.
    pub memory: u32,
    /// The kernel's LSM list; `None` leaves it as shipped.
    pub lsm: Option<String>,
    /// More words for the kernel's command line.
    pub append: String,
    /// One guest nanosecond is one instruction, on one processor, the same every time.
    pub icount: bool,
    /// The serial line is a person's terminal; the kernel's console goes to the second one.
    pub terminal: bool,
    /// What the guest says goes to files named as [`PORTS`]: it runs on when nobody listens.
    pub detached: bool,
    /// Disks after the root image and the job.
    pub disks: Vec<Disk>,
    /// Ports of this machine's 127.0.0.1 that lead to ports of the guest. Without any the guest has no network; with
    /// some, it also reaches this machine's 127.0.0.1 as 10.0.2.2.
    pub forwards: Vec<(u16, u16)>,
}

/// A disk besides the root image and the job.
#[derive(Debug, Clone)]
pub struct Disk {
    /// Its image, raw.
    pub file: PathBuf,
    /// Whether what the guest writes is kept; otherwise it is gone with the guest.
    pub kept: bool,
}

/// The files of one guest.
#[derive(Debug)]
pub struct Files<'a> {
    /// The kernel's image.
    pub kernel: &'a Path,
    /// The root image; never written.
    pub root: &'a Path,
    /// A folder with `initrd` and `job`, where the sockets of [`PORTS`] are and `console` is written.
    pub folder: &'a Path,
}

impl Machine {
    /// The kernel's command line.
    #[must_use]
    pub fn kernel_line(&self) -> String {
        let console = if self.terminal { "ttyS1" } else { "ttyS0" };
        // An oops ends the guest: a kernel that went on after one would tell nothing that can be relied on.
        let mut words = vec![format!("console={console} quiet panic=-1 oops=panic mitigations=off")];
        words.extend(self.lsm.iter().map(|lsm| format!("lsm={lsm}")));
        if self.icount {
            words.push("nokaslr norandmaps".to_owned());
        }
        words.push(self.append.clone());
        words.join(" ").trim_end().to_owned()
    }

    /// QEMU's arguments.
    #[must_use]
    pub fn arguments(&self, files: &Files) -> Vec<String> {
        let folder = files.folder.display();
        let mut arguments: Vec<String> = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
        if self.icount {
            add(&["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-smp", "1"]);
            add(&["-cpu", "max,-rdrand,-rdseed", "-rtc", "base=2026-01-01,clock=vm"]);
        } else {
            // Two processors by turns. With a thread for each, QEMU 7.2 can translate an instruction that the other
            // processor is just rewriting and keep the stale one: attaching a program then ends in "Oops: int3".
            add(&["-accel", "tcg,thread=single", "-smp", "2", "-cpu", "max"]);
        }
        add(&["-m", &self.memory.to_string(), "-display", "none", "-no-reboot", "-nodefaults", "-monitor", "none"]);
        if self.terminal {
            add(&["-chardev", "stdio,id=terminal,signal=off", "-serial", "chardev:terminal"]);
        }
        add(&["-chardev", &format!("file,id=console,path={folder}/console"), "-serial", "chardev:console"]);
        add(&["-kernel", &files.kernel.display().to_string(), "-initrd", &format!("{folder}/initrd")]);
        add(&["-append", &self.kernel_line()]);
        let root = files.root.display();
        add(&["-drive", &format!("if=none,id=root,file={root},format=raw,snapshot=on,cache=unsafe")]);
        add(&["-device", "virtio-blk-pci,drive=root"]);
        add(&["-drive", &format!("if=none,id=job,file={folder}/job,format=raw,readonly=on")]);
        add(&["-device", "virtio-blk-pci,drive=job", "-device", "virtio-serial-pci"]);
        for (number, disk) in self.disks.iter().enumerate() {
            let kept = if disk.kept { "" } else { ",snapshot=on" };
            let file = disk.file.display();
            add(&["-drive", &format!("if=none,id=disk{number},file={file},format=raw{kept},cache=unsafe")]);
            add(&["-device", &format!("virtio-blk-pci,drive=disk{number}")]);
        }
        if !self.forwards.is_empty() {
            let forward = |(here, there): &(u16, u16)| format!("hostfwd=tcp:127.0.0.1:{here}-:{there}");
            let forwards: Vec<String> = self.forwards.iter().map(forward).collect();
            add(&["-netdev", &format!("user,id=net,ipv6=off,{}", forwards.join(","))]);
            add(&["-device", "virtio-net-pci,netdev=net,romfile="]);
        }
        for (number, port) in (1..).zip(PORTS) {
            if self.detached {
                add(&["-chardev", &format!("file,id={port},path={folder}/{port}")]);
            } else {
                add(&["-chardev", &format!("socket,id={port},path={folder}/{port}.socket")]);
            }
            add(&["-device", &format!("virtserialport,nr={number},chardev={port},name=mooring.{port}")]);
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine { memory: 2048, lsm: Some(LSM_WITH_BPF.to_owned()), ..Machine::default() }
    }

    fn line(machine: &Machine) -> String {
        let files = Files { kernel: Path::new("/k"), root: Path::new("/r"), folder: Path::new("/f") };
        machine.arguments(&files).join(" ")
    }

    #[test]
    fn the_root_image_and_the_job_are_never_written() {
        let line = line(&machine());
        assert!(line.contains("file=/r,format=raw,snapshot=on"), "{line}");
        assert!(line.contains("file=/f/job,format=raw,readonly=on"), "{line}");
        let root = line.find("drive=root").unwrap();
        assert!(root < line.find("drive=job").unwrap(), "the guest's first disk is the root");
    }

    #[test]
    fn a_network_only_where_it_is_asked_for_and_only_on_loopback() {
        assert!(!line(&machine()).contains("netdev"));
        let line = line(&Machine { forwards: vec![(40_001, 10_250), (40_002, 5001)], ..machine() });
        assert!(line.contains("hostfwd=tcp:127.0.0.1:40001-:10250,hostfwd=tcp:127.0.0.1:40002-:5001 "), "{line}");
    }

    #[test]
    fn other_disks_come_last_and_are_written_only_on_request() {
        let disk = |file: &str, kept| Disk { file: file.into(), kept };
        let line = line(&Machine { disks: vec![disk("/a", false), disk("/b", true)], detached: true, ..machine() });
        assert!(
            line.contains("file=/a,format=raw,snapshot=on,") && line.contains("file=/b,format=raw,cache"),
            "{line}"
        );
        assert!(line.find("drive=job").unwrap() < line.find("drive=disk0").unwrap());
        assert!(line.contains("file,id=status,path=/f/status ") && !line.contains(".socket"), "{line}");
    }

    #[test]
    fn lsm_list_and_additions() {
        assert!(machine().kernel_line().contains(" lsm=lockdown,capability,landlock,yama,apparmor,bpf"));
        let shipped = Machine { lsm: None, append: "audit=0".to_owned(), ..machine() };
        assert!(!shipped.kernel_line().contains("lsm="));
        assert!(shipped.kernel_line().ends_with(" audit=0"));
    }

    #[test]
    fn instruction_counting_has_one_processor_and_no_randomness() {
        let line = line(&Machine { icount: true, ..machine() });
        for word in
            ["thread=single", "shift=0,sleep=off", "-smp 1 ", "-rdrand,-rdseed", "clock=vm", "nokaslr norandmaps"]
        {
            assert!(line.contains(word), "{word}: {line}");
        }
        assert!(!line.contains("-smp 2"));
    }

    #[test]
    fn a_terminal_keeps_the_console_apart() {
        let machine = Machine { terminal: true, ..machine() };
        assert!(machine.kernel_line().starts_with("console=ttyS1 "));
        let line = line(&machine);
        assert!(line.find("chardev:terminal").unwrap() < line.find("chardev:console").unwrap(), "{line}");
    }
}
