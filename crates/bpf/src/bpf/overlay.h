/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What overlayfs knows of a file: its upper, its lower, and whether it was written. */
#ifndef MOORING_OVERLAY_H
#define MOORING_OVERLAY_H

#include "maps.h"
#include <bpf/bpf_core_read.h>

/* struct ovl_inode is in the module's BTF only where modules have BTF; __upperdentry follows vfs_inode in every version. */
static __always_inline struct dentry *upper_of(struct inode *inode)
{
	struct dentry *upper = NULL;

	if (bpf_core_field_exists(struct ovl_inode, __upperdentry))
		bpf_probe_read_kernel(&upper, sizeof(upper),
				      (void *)inode + bpf_core_field_offset(struct ovl_inode, __upperdentry) -
					  bpf_core_field_offset(struct ovl_inode, vfs_inode));
	else
		bpf_probe_read_kernel(&upper, sizeof(upper), (void *)inode + bpf_core_type_size(struct inode));
	return upper;
}

/* The image's own file behind an overlay inode. */
struct lower {
	struct inode *inode;   /* NULL: no layer of the image has it */
	struct dentry *dentry; /* NULL: the kernel did not keep it */
	struct dentry *root;   /* of the layer that it is in */
};

#define HAS_LOWER_IN_INODE \
	(bpf_core_field_exists(struct ovl_inode, oe) || bpf_core_field_exists(struct ovl_inode___lowerpath, lowerpath))

static __always_inline void read_ovl_path(const void *ovl_path, struct ovl_path_fixed *read)
{
	bpf_probe_read_kernel(read, sizeof(*read), ovl_path);
}

/* From 5.19 on the inode knows its lower dentry and layer. */
static __always_inline bool lower_path_of(struct inode *inode, struct ovl_path_fixed *path)
{
	if (bpf_core_field_exists(struct ovl_inode, oe)) {
		struct ovl_entry *entry = NULL;
		unsigned int layers = 0;

		bpf_probe_read_kernel(&entry, sizeof(entry),
				      (void *)inode + bpf_core_field_offset(struct ovl_inode, oe) -
					  bpf_core_field_offset(struct ovl_inode, vfs_inode));
		if (!entry)
			return false;
		bpf_core_read(&layers, sizeof(layers), &entry->__numlower);
		if (!layers)
			return false;
		read_ovl_path((void *)entry + bpf_core_field_offset(struct ovl_entry, __lowerstack), path);
	} else {
		read_ovl_path((void *)inode + bpf_core_field_offset(struct ovl_inode___lowerpath, lowerpath) -
				  bpf_core_field_offset(struct ovl_inode, vfs_inode),
			      path);
	}
	return path->dentry != NULL;
}

/* Does the image have this file? The cheap question. Up to 5.18 the lower inode follows __upperdentry. */
static __always_inline struct inode *lower_inode_of(struct inode *inode)
{
	struct ovl_path_fixed path = {};
	struct inode *lower = NULL;

	if (HAS_LOWER_IN_INODE) {
		struct dentry *dentry = lower_path_of(inode, &path) ? path.dentry : NULL;

		return dentry ? BPF_CORE_READ(dentry, d_inode) : NULL;
	}
	bpf_probe_read_kernel(&lower, sizeof(lower), (void *)inode + bpf_core_type_size(struct inode) + sizeof(void *));
	return lower;
}

/* Names of a hard-linked file that are looked at, up to 5.18, for the one that came from the image. */
#define ALIASES 8

/* The cheap question's answer with its name and layer. */
static __always_inline void find_lower(struct inode *inode, struct lower *lower)
{
	struct ovl_path_fixed path = {};
	struct vfsmount *mnt = NULL;

	lower->dentry = NULL;
	lower->root = NULL;
	lower->inode = lower_inode_of(inode);
	if (!lower->inode)
		return;
	if (HAS_LOWER_IN_INODE) {
		lower_path_of(inode, &path);
	} else {
		struct hlist_node *alias = BPF_CORE_READ(inode, i_dentry.first);

		for (int i = 0; i < ALIASES && alias; i++) {
			struct dentry *dentry = (void *)alias - bpf_core_field_offset(struct dentry, d_u.d_alias);
			struct ovl_entry_fixed *entry = BPF_CORE_READ(dentry, d_fsdata);
			unsigned int layers = 0;

			bpf_probe_read_kernel(&layers, sizeof(layers), &entry->numlower);
			if (layers) {
				read_ovl_path(&entry->lowest, &path);
				break;
			}
			alias = BPF_CORE_READ(alias, next);
		}
	}
	if (!path.dentry || !path.layer)
		return;
	lower->dentry = path.dentry;
	/* The layer's first field in every version, and in no BTF where modules have none. */
	bpf_probe_read_kernel(&mnt, sizeof(mnt), path.layer);
	lower->root = BPF_CORE_READ(mnt, mnt_root);
}

static __always_inline void mark_key_of(struct inode *inode, __u32 dev, __u64 number, struct mark_key *key)
{
	key->address = (__u64)inode;
	key->inode = number;
	key->dev = dev;
	key->zero = 0;
}

static __always_inline bool is_clean(struct mark_key *key)
{
	__u64 *clean;

	if (bpf_map_lookup_elem(&written_marks, key))
		return false;
	clean = bpf_map_lookup_elem(&clean_marks, key);
	return clean && *clean == CLEAN;
}

/* Has a file without a known lower ever been compared? Most never are, and writers of new files need not look for a mark. */
static __always_inline bool has_lowerless_marks(void)
{
	__u32 zero = 0;
	__u32 *any = bpf_map_lookup_elem(&lowerless_marks, &zero);

	return any && *any;
}

/*
 * Content may change from here on. A file that no layer of the image has needs no mark, it is new, unless it was compared with
 * one or just is. Only a comparison takes the mark away.
 */
static __always_inline void mark_written(struct inode *inode)
{
	__u64 written = WRITTEN, *state;
	struct mark_key key;

	mark_key_of(inode, inode->i_sb->s_dev, inode->i_ino, &key);
	if (!lower_inode_of(inode) && !(has_lowerless_marks() && bpf_map_lookup_elem(&clean_marks, &key)))
		return;
	/* Whoever takes the mark away looks afterwards whether somebody has the file open for writing, as this one has. */
	state = bpf_map_lookup_elem(&written_marks, &key);
	if (state && *state == WRITTEN)
		return;
	bpf_map_update_elem(&written_marks, &key, &written, BPF_ANY);
	bpf_map_delete_elem(&clean_marks, &key);
}

/* A clean mark beside a written one could outlive it. */
static __always_inline bool mark_clean(struct mark_key *key)
{
	__u64 clean = CLEAN;

	if (bpf_map_lookup_elem(&written_marks, key))
		return false;
	bpf_map_update_elem(&clean_marks, key, &clean, BPF_ANY);
	if (!bpf_map_lookup_elem(&written_marks, key))
		return true;
	bpf_map_delete_elem(&clean_marks, key);
	return false;
}

/* Metadata is about to change. Only while there is no upper is the content known to be the image's. */
static __always_inline void mark_clean_before_copy_up(struct inode *inode)
{
	struct mark_key key;

	if (upper_of(inode))
		return;
	mark_key_of(inode, inode->i_sb->s_dev, inode->i_ino, &key);
	mark_clean(&key);
}

/* An answer that has not come in this time is asked for again: the agent may have been restarted. */
#define COMPARISON_NS (1000ULL * 1000 * 1000)

static __always_inline bool ask_for_comparison(struct mark_key *key)
{
	__u64 now = bpf_ktime_get_ns();
	__u64 *written = bpf_map_lookup_elem(&written_marks, key);
	__u64 *asked = bpf_map_lookup_elem(&asked_comparisons, key);

	if ((written && *written == COMPARED_AND_DIFFERENT) || (asked && now - *asked < COMPARISON_NS))
		return false;
	bpf_map_update_elem(&asked_comparisons, key, &now, BPF_ANY);
	return true;
}

static __always_inline bool is_overlay_file(struct inode *inode)
{
	return inode && inode->i_sb->s_magic == OVERLAYFS_SUPER_MAGIC && (inode->i_mode & S_IFMT) == S_IFREG;
}

#endif
