/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The names of a file: built from its dentry upwards, so that nothing a task does to its own root (chroot, bind mounts)
 * changes them. Written from the right end of the buffer towards the left.
 */
#ifndef MOORING_NAMES_H
#define MOORING_NAMES_H

#include "overlay.h"
#include "scratch.h"

/* 255 bytes hold at most this many components, "/" and one byte each. */
#define PATH_COMPONENTS 128

static __always_inline void clear_name(struct name *name)
{
	__builtin_memset(&name->key, 0, sizeof(name->key));
	name->offset = NAME_LEN;
	name->state = NAME_NONE;
}

/* Puts `length` bytes before what is there. False: there is no room, or they cannot be read. */
static __always_inline bool prepend(struct name *name, const void *bytes, __u32 length)
{
	__u32 offset = name->offset;

	if (length > offset || length >= NAME_LEN) {
		name->state = NAME_TOO_LONG;
		return false;
	}
	offset = (offset - length) & (NAME_LEN - 1);
	/* The compiler knows that this changes nothing; the verifier does not. */
	barrier_var(length);
	length &= NAME_LEN - 1;
	if (length && bpf_probe_read_kernel(&name->key.bytes[offset], length, bytes)) {
		name->state = NAME_UNRESOLVED;
		return false;
	}
	name->offset = offset;
	return true;
}

static __always_inline bool prepend_slash(struct name *name)
{
	__u32 offset = name->offset - 1;

	if (offset >= NAME_LEN) {
		name->state = NAME_TOO_LONG;
		return false;
	}
	name->key.bytes[offset & (NAME_LEN - 1)] = '/';
	name->offset = offset;
	return true;
}

/* The longest walk that can end in a name of a list. A longer one leaves NAME_TOO_LONG, and so does a name of 256 bytes. */
__noinline int walk_up(__u32 slot, __u32 index)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
	struct dentry *dentry, *stop;
	struct mount *mount;
	struct name *name;

	if (!scratch || index >= NAMES)
		return -1;
	name = &scratch->record.names[index];
	dentry = (struct dentry *)scratch->walk.dentry;
	stop = (struct dentry *)scratch->walk.stop;
	mount = (struct mount *)scratch->walk.mount;
	for (int component = 0; component < PATH_COMPONENTS; component++) {
		struct dentry *parent;
		struct qstr leaf;

		if (dentry == stop) {
			name->state = NAME_PATH;
			return 0;
		}
		if (mount && dentry == BPF_CORE_READ(mount, mnt.mnt_root)) {
			struct mount *above = BPF_CORE_READ(mount, mnt_parent);

			if (!above || above == mount) {
				name->state = NAME_PATH;
				return 0;
			}
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			mount = above;
			continue;
		}
		parent = BPF_CORE_READ(dentry, d_parent);
		if (!parent) {
			name->state = NAME_UNRESOLVED;
			return -1;
		}
		if (parent == dentry) {
			name->state = NAME_PATH;
			return 0;
		}
		bpf_core_read(&leaf.len, sizeof(leaf.len), &dentry->d_name.len);
		bpf_core_read(&leaf.name, sizeof(leaf.name), &dentry->d_name.name);
		if (!prepend(name, leaf.name, leaf.len) || !prepend_slash(name))
			return -1;
		dentry = parent;
	}
	name->state = NAME_TOO_LONG;
	return -1;
}

/* "memfd:NAME". Only a kernel-internal mount has such files, so nothing on a mount of the container's can pose as one. */
static __always_inline void name_memfd(struct dentry *dentry, struct name *name)
{
	struct qstr leaf;

	bpf_core_read(&leaf.len, sizeof(leaf.len), &dentry->d_name.len);
	bpf_core_read(&leaf.name, sizeof(leaf.name), &dentry->d_name.name);
	if (prepend(name, leaf.name, leaf.len))
		name->state = NAME_PATH;
}

/* The path in the container's root, or the volume's destination and the path in it. */
__noinline int name_path(__u32 slot)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
	struct request *request;
	struct inode *inode;
	struct name *name;

	if (!scratch)
		return -1;
	request = &scratch->request;
	name = &scratch->record.names[NAME_INDEX_PATH];
	clear_name(name);
	inode = (struct inode *)request->inode;
	if (request->file_class == CLASS_FILELESS && (BPF_CORE_READ(inode, i_sb, s_flags) & SB_KERNMOUNT)) {
		name_memfd((struct dentry *)request->dentry, name);
		return 0;
	}
	scratch->walk.dentry = request->dentry;
	scratch->walk.stop = 0;
	scratch->walk.mount = 0;
	if (request->file_class == CLASS_VOLUME_BINARY) {
		struct dentry *root = (struct dentry *)request->volume;
		struct volume_key key = {.container = request->cgroup, .dev = request->dev};
		struct volume *volume;
		__u32 length;

		key.inode = BPF_CORE_READ(root, d_inode, i_ino);
		volume = bpf_map_lookup_elem(&volumes, &key);
		scratch->walk.stop = request->volume;
		if (walk_up(slot, NAME_INDEX_PATH))
			return -1;
		length = volume ? volume->destination_len : 0;
		if (!volume || !length || length >= NAME_LEN) {
			name->state = NAME_UNRESOLVED;
			return -1;
		}
		prepend(name, &volume->destination[(NAME_LEN - length) & (NAME_LEN - 1)], length);
		return 0;
	}
	/* Where a foreign mount's file is seen by who executes it: for people, never for a list. */
	if (request->file_class == CLASS_FOREIGN_MOUNT)
		scratch->walk.mount = request->mnt - bpf_core_field_offset(struct mount, mnt);
	else if (request->dev == request->root_dev && !request->root_is_overlay) {
		struct vfsmount *mnt = (struct vfsmount *)request->mnt;

		scratch->walk.stop = (__u64)BPF_CORE_READ(mnt, mnt_root);
	}
	return walk_up(slot, NAME_INDEX_PATH);
}

/* The image file's own path in its layer, where it may differ from where it is now: only once it was copied up. */
__noinline int name_lower(__u32 slot)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
	struct lower lower = {};
	struct inode *inode;

	if (!scratch)
		return -1;
	clear_name(&scratch->record.names[NAME_INDEX_LOWER]);
	inode = (struct inode *)scratch->request.inode;
	scratch->lower_inode = 0;
	if (scratch->request.dev != scratch->request.root_dev || !scratch->request.root_is_overlay || !upper_of(inode))
		return 0;
	find_lower(inode, &lower);
	scratch->lower_inode = (__u64)lower.inode;
	if (!lower.inode)
		return 0;
	if (!lower.dentry || !lower.root) {
		scratch->record.names[NAME_INDEX_LOWER].state = NAME_UNRESOLVED;
		return -1;
	}
	scratch->walk.dentry = (__u64)lower.dentry;
	scratch->walk.stop = (__u64)lower.root;
	scratch->walk.mount = 0;
	return walk_up(slot, NAME_INDEX_LOWER);
}

/* 1 or 0, without a branch: each branch in a loop over bytes would double what the verifier has to look at. */
#define SAME(a, b) \
	({ \
		__u32 difference_ = (__u32)(a) ^ (__u32)(b); \
		barrier_var(difference_); \
		(difference_ - 1) >> 31; \
	})

/*
 * As the caller wrote it, with "//" and "/./" taken out and the working folder put before a relative one. A name with ".."
 * is left out: only the file system could say what it means, and the file's own path is checked anyway.
 */
__noinline int name_invoked(__u32 slot)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u32 offset = NAME_LEN;
	__u32 parents = 0;
	struct name *name;
	__u8 *buffer;
	bool relative;
	long length;

	if (!scratch)
		return -1;
	name = &scratch->record.names[NAME_INDEX_INVOKED];
	buffer = scratch->buffer;
	clear_name(name);
	if (!scratch->request.filename)
		return 0;

	/* A slash before it and one behind it: every byte has neighbours. */
	buffer[0] = '/';
	name->tail[0] = '/';
	length = bpf_probe_read_kernel_str(buffer + 1, NAME_LEN - 1, (void *)scratch->request.filename);
	if (length <= 1)
		return 0;
	if (length >= NAME_LEN - 1) {
		name->state = NAME_TOO_LONG;
		return 0;
	}
	relative = buffer[1] != '/';
	for (__u32 i = NAME_LEN - 1; i >= 1; i--) {
		__u32 at = i, at_before = i - 1, at_before_that = i - 2;

		/* Without these the compiler walks a pointer through the buffer, whose bounds the verifier loses. */
		barrier_var(at);
		barrier_var(at_before);
		barrier_var(at_before_that);
		__u32 byte = buffer[at & (NAME_LEN - 1)];
		__u32 before = buffer[at_before & (NAME_LEN - 1)];
		__u32 before_that = buffer[at_before_that & (NAME_LEN - 1)];
		__u32 after = name->key.bytes[offset & (2 * NAME_LEN - 1)];
		/* length counts the zero at the end: the name's bytes are at 1 to length - 1. */
		__u32 valid = ((__u64)i - (__u64)length) >> 63;
		__u32 skip = SAME(after, '/') & (SAME(byte, '/') | (SAME(byte, '.') & SAME(before, '/')));

		parents |= valid & SAME(byte, '.') & SAME(before, '.') & SAME(before_that, '/') & SAME(after, '/');
		name->key.bytes[(offset - 1) & (NAME_LEN - 1)] = byte;
		offset -= valid & ~skip & 1;
		barrier_var(offset);
	}
	/* The last byte that was looked at may not have been kept. */
	name->key.bytes[(offset - 1) & (NAME_LEN - 1)] = 0;
	name->offset = offset;
	if (parents) {
		clear_name(name);
		return 0;
	}
	name->state = NAME_PATH;
	if (!relative)
		return 0;
	if (name->key.bytes[offset & (NAME_LEN - 1)] != '/' && !prepend_slash(name))
		return 0;
	scratch->walk.dentry = (__u64)BPF_CORE_READ(task, fs, pwd.dentry);
	scratch->walk.stop = 0;
	scratch->walk.mount = 0;
	return walk_up(slot, NAME_INDEX_INVOKED);
}

#endif
