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

/* Puts "/" and a dentry's name before what is there. Few branches: the verifier follows each of them for every component. */
static __always_inline bool prepend_component(struct name *name, struct dentry *dentry)
{
	const unsigned char *text = LOAD(dentry, d_name.name);
	__u32 length = LOAD(dentry, d_name.len);
	__u64 offset;
	__u8 *start;

	offset = (__u64)name->offset - length - 1;
	if (offset >= NAME_LEN) {
		name->state = NAME_TOO_LONG;
		return false;
	}
	name->offset = offset;
	/* The compiler knows that these change nothing; the verifier does not. */
	barrier_var(offset);
	barrier_var(length);
	start = &name->key.bytes[offset & (NAME_LEN - 1)];
	*start = '/';
	if (bpf_probe_read_kernel(start + 1, length & (NAME_LEN - 1), text)) {
		name->state = NAME_UNRESOLVED;
		return false;
	}
	return true;
}

/* The longest walk that can end in a name of a list. A longer one leaves NAME_TOO_LONG, and so does a name of 256 bytes. */
__noinline int walk_up(__u32 slot, __u32 index)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
	struct dentry *dentry, *stop;
	struct name *name;

	if (!scratch || index >= NAMES)
		return -1;
	name = &scratch->names[index];
	dentry = (struct dentry *)scratch->walk.dentry;
	stop = (struct dentry *)scratch->walk.stop;
	for (int component = 0; component <= PATH_COMPONENTS; component++) {
		struct dentry *parent = LOAD(dentry, d_parent);

		if (dentry == stop) {
			name->state = NAME_PATH;
			return 0;
		}
		if (!parent || parent == dentry) {
			/* What has a place to stop at and ends elsewhere is connected to nothing: found by its number, not by its name. */
			name->state = stop || !parent ? NAME_UNRESOLVED : NAME_PATH;
			return name->state == NAME_PATH ? 0 : -1;
		}
		if (!prepend_component(name, dentry))
			return -1;
		dentry = parent;
	}
	name->state = NAME_TOO_LONG;
	return -1;
}

/* Mounts between a foreign file and the root that are named. */
#define MOUNTS 8

/* Where a foreign mount's file is seen by who executes it: for people, never for a list. */
static __always_inline void name_foreign(__u32 slot, struct scratch *scratch)
{
	struct mount *mount = (struct mount *)(scratch->request.mnt - bpf_core_field_offset(struct mount, mnt));

	for (int i = 0; i < MOUNTS; i++) {
		struct mount *above = BPF_CORE_READ(mount, mnt_parent);

		scratch->walk.stop = (__u64)BPF_CORE_READ(mount, mnt.mnt_root);
		if (walk_up(slot, NAME_INDEX_PATH) || !above || above == mount)
			return;
		scratch->walk.dentry = (__u64)BPF_CORE_READ(mount, mnt_mountpoint);
		mount = above;
	}
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
	name = &scratch->names[NAME_INDEX_PATH];
	clear_name(name);
	inode = (struct inode *)request->inode;
	if (request->file_class == CLASS_FILELESS && (BPF_CORE_READ(inode, i_sb, s_flags) & SB_KERNMOUNT)) {
		name_memfd((struct dentry *)request->dentry, name);
		return 0;
	}
	scratch->walk.dentry = request->dentry;
	scratch->walk.stop = 0;
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
	if (request->file_class == CLASS_FOREIGN_MOUNT) {
		name_foreign(slot, scratch);
		return 0;
	}
	if (request->dev == request->root_dev && !request->root_is_overlay) {
		struct vfsmount *mnt = (struct vfsmount *)request->mnt;

		scratch->walk.stop = (__u64)BPF_CORE_READ(mnt, mnt_root);
	}
	if (walk_up(slot, NAME_INDEX_PATH))
		return -1;
	/* An unlinked file outside the root keeps the path that it had there: for people, in no list. */
	if (request->file_class == CLASS_FILELESS && request->dev != request->root_dev)
		name->state = NAME_TOO_LONG;
	return 0;
}

/* The image file's own path in its layer. It may differ from where it is now once it, or, with redirect_dir, a folder above it was renamed. */
__noinline int name_lower(__u32 slot)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
	struct lower lower = {};
	struct inode *inode;

	if (!scratch)
		return -1;
	clear_name(&scratch->names[NAME_INDEX_LOWER]);
	inode = (struct inode *)scratch->request.inode;
	scratch->lower_inode = 0;
	if (scratch->request.dev != scratch->request.root_dev || !scratch->request.root_is_overlay)
		return 0;
	find_lower(inode, &lower);
	scratch->lower_inode = (__u64)lower.inode;
	if (!lower.inode)
		return 0;
	if (!lower.dentry || !lower.root) {
		if (!upper_of(inode))
			return 0;
		scratch->names[NAME_INDEX_LOWER].state = NAME_UNRESOLVED;
		return -1;
	}
	scratch->walk.dentry = (__u64)lower.dentry;
	scratch->walk.stop = (__u64)lower.root;
	return walk_up(slot, NAME_INDEX_LOWER);
}

/* As the caller wrote it: what that means in the container's root, the agent has found out before (see name_alias). */
__noinline int name_invoked(__u32 slot)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
	struct name *name;
	long length;

	if (!scratch)
		return -1;
	name = &scratch->names[NAME_INDEX_INVOKED];
	clear_name(name);
	scratch->invoked_len = 0;
	if (!scratch->request.invoked)
		return 0;
	/* The length counts the zero at the end. */
	length = bpf_probe_read_kernel_str(scratch->invoked, sizeof(scratch->invoked), (void *)scratch->request.invoked);
	if (length <= 1)
		return 0;
	scratch->invoked_len = length - 1;
	if (prepend(name, scratch->invoked, length - 1))
		name->state = NAME_PATH;
	return 0;
}

/*
 * "/bin/busybox/nc": the program that is invoked by a link's name. No file has such a path, so it can stand in the same
 * table; the agent enters it for each prohibited path that is a link in a container's root, and so it does not matter by
 * which folder, link to a folder or ".." the name is written.
 */
__noinline int name_alias(__u32 slot)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
	struct name *name, *base;
	__u32 length, leaf;

	if (!scratch)
		return -1;
	name = &scratch->names[NAME_INDEX_ALIAS];
	clear_name(name);
	length = scratch->invoked_len;
	base = &scratch->names[NAME_INDEX_LOWER];
	if (base->state != NAME_PATH)
		base = &scratch->names[NAME_INDEX_PATH];
	if (!length || base->state != NAME_PATH)
		return 0;
	scratch->leaf_len = 0;
	for (__u32 i = 0; i < NAME_LEN && i < length; i++) {
		__u32 at = length - 1 - i;

		barrier_var(at);
		if (scratch->invoked[at & (PATH_MAX - 1)] == '/')
			break;
		scratch->leaf_len = i + 1;
	}
	/* Read back: the verifier would go on from each of the lengths that it has seen above. */
	leaf = *(volatile __u32 *)&scratch->leaf_len;
	if (prepend(name, &scratch->invoked[(length - leaf) & (PATH_MAX - 1)], leaf) && prepend_slash(name) &&
	    prepend(name, &base->key.bytes[base->offset & (NAME_LEN - 1)], NAME_LEN - base->offset))
		name->state = NAME_PATH;
	return 0;
}

#endif
