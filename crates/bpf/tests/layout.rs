//! The Rust types of the wire are laid out as the kernel programs have them, and no byte of what crosses is padding: a hash
//! compares all bytes of a key, and what is no field holds whatever was there before.
//!
//! The programs' side is the BTF that clang wrote into the object. Opening it needs neither privileges nor a kernel's help.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]
#![allow(unsafe_code)] // libbpf-rs gives no other way to the BTF of an object that is not loaded.

use std::mem::{MaybeUninit, offset_of, size_of};

use libbpf_rs::btf::types::{Array, DataSec, Int, MemberAttr, Ptr, Struct, Var};
use libbpf_rs::btf::{Btf, BtfType, HasSize as _, ReferencesType as _};
use libbpf_rs::skel::{OpenSkel as _, SkelBuilder as _};
use libbpf_rs::{AsRawLibbpf as _, OpenObject};
use mooring_bpf::{MooringSkelBuilder, OpenMooringSkel, wire};

/// Name, offset and size of a field, in bytes.
type Field = (String, usize, usize);

fn open(storage: &mut MaybeUninit<OpenObject>) -> OpenMooringSkel<'_> {
    MooringSkelBuilder::default().open(storage).unwrap()
}

fn btf_of<'a>(open: &'a OpenMooringSkel<'_>) -> Btf<'a> {
    // SAFETY: the object lives as long as what it was opened into, which is borrowed here.
    let object = unsafe { open.open_object().as_libbpf_object().as_ref() };
    Btf::from_bpf_object(object).unwrap().unwrap()
}

fn size_in(it: BtfType<'_>) -> usize {
    let it = it.skip_mods_and_typedefs();
    if let Ok(structure) = Struct::try_from(it) {
        structure.size()
    } else if let Ok(array) = Array::try_from(it) {
        array.capacity() * size_in(array.contained_type())
    } else if let Ok(int) = Int::try_from(it) {
        usize::from(int.bits) / 8
    } else {
        panic!("{it:?} has no place on the wire")
    }
}

fn fields_in(btf: &Btf<'_>, structure: &Struct<'_>) -> Vec<Field> {
    let fields = structure.iter().map(|member| {
        let MemberAttr::Normal { offset } = member.attr else { panic!("a bit field has no place on the wire") };
        let size = size_in(btf.type_by_id(member.ty).unwrap());
        (member.name.unwrap().to_str().unwrap().to_owned(), offset as usize / 8, size)
    });
    fields.collect()
}

/// The bytes that belong to no field, in the structures inside it too.
fn padding_in(btf: &Btf<'_>, it: BtfType<'_>) -> usize {
    let it = it.skip_mods_and_typedefs();
    if let Ok(array) = Array::try_from(it) {
        return array.capacity() * padding_in(btf, array.contained_type());
    }
    let Ok(structure) = Struct::try_from(it) else { return 0 };
    let inside: usize = structure.iter().map(|member| padding_in(btf, btf.type_by_id(member.ty).unwrap())).sum();
    let used: usize = fields_in(btf, &structure).iter().map(|(_, _, size)| size).sum();
    structure.size() - used + inside
}

fn size_of_field<T, F>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// Compares the Rust structures with the programs' and looks for padding. All of a structure's fields have to be named.
macro_rules! compare {
    ($btf:expr, $($type:ident { $($field:ident),+ $(,)? })+) => {
        $({
            let name = stringify!($type);
            let structure: Struct<'_> = $btf.type_by_name(name).unwrap_or_else(|| panic!("{name} is not in the BTF"));
            let rust = [$((
                stringify!($field).trim_start_matches("r#").to_owned(),
                offset_of!(wire::$type, $field),
                size_of_field(|it: &wire::$type| &it.$field),
            )),+];
            assert_eq!(fields_in(&$btf, &structure), rust, "fields of {name}: the programs' left, Rust's right");
            assert_eq!(structure.size(), size_of::<wire::$type>(), "size of {name}");
            assert_eq!(padding_in(&$btf, *structure), 0, "bytes of padding in {name}");
        })+
    };
}

#[test]
fn rust_and_the_programs_lay_the_wire_out_alike_and_without_padding() {
    let mut storage = MaybeUninit::uninit();
    let open = open(&mut storage);
    let btf = btf_of(&open);
    compare! { btf,
        container { root_inode, started, root_dev, flags }
        control { instance, relieved, tables }
        executing { task, mm, inode }
        flood { count, reported, last_seen }
        flood_key { container, inode, generation, drift, prohibited, dev, file_class, r#use }
        lifecycle_record { kind, pid, cgroup, parent, inode, lower_inode, dev, lower_dev, path, lower_path }
        mark { inode, dev, zero, state }
        name { key, tail, offset, state }
        path_key { bytes }
        path_rule { excepted, prohibited }
        proof { inode, dev, state, upper, size, changed, changed_ns }
        rules { detects, prevents, except_lists, prohibit_lists, unknown_member, generation }
        verdict { drift, prohibited, denied }
        verdict_case { member, r#use, file_class, names }
        violation_record {
            key, denied, time, pid, tid, uid, gid, parent_pid, args_len, comm, parent_comm, aggregated, name_states, killed, names, args,
        }
        volume { destination, destination_len, zero }
        volume_key { container, inode, dev, zero }
    }
}

/// Every key, those that only the programs write too.
#[test]
fn no_map_has_padding_in_its_key() {
    let mut storage = MaybeUninit::uninit();
    let open = open(&mut storage);
    let btf = btf_of(&open);
    let maps: DataSec<'_> = btf.type_by_name(".maps").unwrap();
    let mut keys = 0;
    for place in maps.iter() {
        let map: Var<'_> = btf.type_by_id(place.ty).unwrap();
        let definition = Struct::try_from(map.referenced_type()).unwrap();
        // Ring buffers have no key.
        let Some(key) = definition.iter().find(|member| member.name.is_some_and(|name| name == "key")) else {
            continue;
        };
        let pointer: Ptr<'_> = btf.type_by_id(key.ty).unwrap();
        assert_eq!(padding_in(&btf, pointer.referenced_type()), 0, "bytes of padding in the key of {:?}", map.name());
        keys += 1;
    }
    assert!(keys >= 10, "only {keys} keys were found");
}

#[test]
fn constants_are_those_of_the_headers() {
    let mut storage = MaybeUninit::uninit();
    let open = open(&mut storage);
    assert_eq!(open.maps.containers.max_entries() as usize, wire::MAX_CONTAINERS);
    assert_eq!(size_of::<wire::path_key>(), wire::NAME_LEN);
    for (header, name, value) in [
        (include_str!("../src/bpf/wire.h"), "MOORING_WIRE_VERSION", wire::WIRE_VERSION),
        (include_str!("../src/bpf/scratch.h"), "SCRATCH_SLOTS_PER_CPU", wire::SCRATCH_SLOTS_PER_CPU),
    ] {
        let line = format!("#define {name} {value}");
        assert!(header.lines().any(|it| it == line), "the header does not say {line:?}");
    }
}
