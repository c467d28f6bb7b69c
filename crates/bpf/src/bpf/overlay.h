/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What overlayfs knows of a file: its upper, its lower, and whether it was written. */
#ifndef MOORING_OVERLAY_H
#define MOORING_OVERLAY_H

#include "task.h"

/* struct ovl_inode is in the module's BTF only where modules have BTF; __upperdentry follows vfs_inode in every version. */
static __always_inline struct dentry *upper_of(struct inode *inode)
{
	__u32 offset = bpf_core_type_size(struct inode);

	if (bpf_core_field_exists(struct ovl_inode, __upperdentry))
		offset =
		    bpf_core_field_offset(struct ovl_inode, __upperdentry) - bpf_core_field_offset(struct ovl_inode, vfs_inode);
	return (struct dentry *)word_at(inode, offset);
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
	read->layer = (void *)word_at(ovl_path, offsetof(struct ovl_path_fixed, layer));
	read->dentry = (struct dentry *)word_at(ovl_path, offsetof(struct ovl_path_fixed, dentry));
}

/* From 6.5 on. */
static __always_inline const void *entry_of(struct inode *inode)
{
	return (const void *)word_at(inode, bpf_core_field_offset(struct ovl_inode, oe) -
						bpf_core_field_offset(struct ovl_inode, vfs_inode));
}

static __always_inline __u32 layers_of(const void *entry)
{
	return word_at(entry, bpf_core_field_offset(struct ovl_entry, __numlower));
}

/* From 5.19 on the inode knows its lower dentry and layer. */
static __always_inline bool lower_path_of(struct inode *inode, struct ovl_path_fixed *path)
{
	if (bpf_core_field_exists(struct ovl_inode, oe)) {
		const void *entry = entry_of(inode);

		if (!entry || !layers_of(entry))
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

	if (HAS_LOWER_IN_INODE) {
		struct dentry *dentry = lower_path_of(inode, &path) ? path.dentry : NULL;

		return dentry ? LOAD(dentry, d_inode) : NULL;
	}
	return (struct inode *)word_at(inode, bpf_core_type_size(struct inode) + sizeof(void *));
}

/* The same question by two words less: every open for writing asks it. */
static __always_inline bool has_lower(struct inode *inode)
{
	const void *entry;

	if (!bpf_core_field_exists(struct ovl_inode, oe))
		return lower_inode_of(inode) != NULL;
	entry = entry_of(inode);
	return entry && layers_of(entry) > 0;
}

/* Names of a hard-linked file that are looked at, up to 5.18, for the one that came from the image. */
#define ALIASES 8

/* The cheap question's answer with its name and layer. */
static __always_inline void find_lower(struct inode *inode, struct lower *lower)
{
	struct ovl_path_fixed path = {};
	struct vfsmount *mnt;

	lower->dentry = NULL;
	lower->root = NULL;
	if (HAS_LOWER_IN_INODE) {
		lower->inode = lower_path_of(inode, &path) ? LOAD(path.dentry, d_inode) : NULL;
	} else {
		lower->inode = lower_inode_of(inode);
	}
	if (!lower->inode)
		return;
	if (!HAS_LOWER_IN_INODE) {
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
	mnt = (struct vfsmount *)word_at(path.layer, 0);
	lower->root = LOAD(mnt, mnt_root);
}

/* Whose mark is asked for. */
struct marked {
	__u64 address;
	__u64 inode;
	__u32 dev;
};

static __always_inline struct mark *mark_in(void *marks, struct marked *marked)
{
	struct mark *mark = bpf_map_lookup_elem(marks, &marked->address);

	return mark && mark->inode == marked->inode && mark->dev == marked->dev ? mark : NULL;
}

static __always_inline bool set_mark(void *marks, struct marked *marked, __u64 state)
{
	struct mark mark = {.inode = marked->inode, .dev = marked->dev, .state = state};

	return !bpf_map_update_elem(marks, &marked->address, &mark, BPF_ANY);
}

/* What an upper file is now, as a proof has it. */
static __always_inline void stamp(struct inode *upper, struct proof *proof)
{
	proof->upper = BPF_CORE_READ(upper, i_ino);
	proof->size = BPF_CORE_READ(upper, i_size);
	if (bpf_core_field_exists(struct inode___seconds, i_ctime_sec)) {
		struct inode___seconds *it = (void *)upper;

		proof->changed = BPF_CORE_READ(it, i_ctime_sec);
		proof->changed_ns = BPF_CORE_READ(it, i_ctime_nsec) & ~I_CTIME_QUERIED;
	} else if (bpf_core_field_exists(struct inode___hidden_timespec, __i_ctime)) {
		struct inode___hidden_timespec *it = (void *)upper;

		proof->changed = BPF_CORE_READ(it, __i_ctime.tv_sec);
		proof->changed_ns = BPF_CORE_READ(it, __i_ctime.tv_nsec);
	} else {
		struct inode___timespec *it = (void *)upper;

		proof->changed = BPF_CORE_READ(it, i_ctime.tv_sec);
		proof->changed_ns = BPF_CORE_READ(it, i_ctime.tv_nsec);
	}
}

/* A shared map for writing holds the upper's count only. */
static __always_inline bool is_open_for_writing(struct inode *inode, struct inode *upper)
{
	return BPF_CORE_READ(inode, i_writecount.counter) > 0 || (upper && BPF_CORE_READ(upper, i_writecount.counter) > 0);
}

/* The proof that still holds for what this overlay file is now. */
static __noinline struct proof *find_proof(struct inode *inode, struct marked *marked)
{
	struct proof *proof = bpf_map_lookup_elem(&proofs, &marked->address);
	struct inode *upper = BPF_CORE_READ(upper_of(inode), d_inode);
	struct proof now = {};

	if (!proof || !upper || proof->inode != marked->inode || proof->dev != marked->dev)
		return NULL;
	stamp(upper, &now);
	if (proof->upper != now.upper || proof->size != now.size || proof->changed != now.changed ||
	    proof->changed_ns != now.changed_ns || is_open_for_writing(inode, upper))
		return NULL;
	return proof;
}

static __always_inline bool is_clean(struct inode *inode, struct marked *marked)
{
	struct mark *clean;

	if (!watches_files) {
		struct proof *proof = find_proof(inode, marked);

		return proof && proof->state == PROOF_EQUAL;
	}

	if (mark_in(&written_marks, marked))
		return false;
	clean = mark_in(&clean_marks, marked);
	return clean && clean->state == CLEAN;
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
static __always_inline void mark_written(struct inode *inode, struct marked *marked)
{
	struct mark *written = mark_in(&written_marks, marked);

	/* Whoever takes the mark away looks afterwards whether somebody has the file open for writing, as this one has. */
	if (written && written->state == WRITTEN)
		return;
	if (!has_lower(inode) && !(has_lowerless_marks() && mark_in(&clean_marks, marked)))
		return;
	set_mark(&written_marks, marked, WRITTEN);
	bpf_map_delete_elem(&clean_marks, &marked->address);
}

/* A clean mark beside a written one could outlive it. */
static __always_inline bool mark_clean(struct marked *marked)
{
	if (mark_in(&written_marks, marked))
		return false;
	set_mark(&clean_marks, marked, CLEAN);
	if (!mark_in(&written_marks, marked))
		return true;
	bpf_map_delete_elem(&clean_marks, &marked->address);
	return false;
}

/* Metadata is about to change. Only while there is no upper is the content known to be the image's. */
static __always_inline void mark_clean_before_copy_up(struct inode *inode, struct marked *marked)
{
	if (upper_of(inode))
		return;
	mark_clean(marked);
	/* Stalled between the two, it could have been copied up, written and compared meanwhile. */
	if (upper_of(inode))
		bpf_map_delete_elem(&clean_marks, &marked->address);
}

/* An answer that has not come in this time is asked for again: the agent may have been restarted. */
#define COMPARISON_NS (1000ULL * 1000 * 1000)

static __always_inline bool ask_for_comparison(struct inode *inode, struct marked *marked)
{
	__u64 now = bpf_ktime_get_ns();
	struct mark *written = mark_in(&written_marks, marked);
	struct mark *asked = mark_in(&asked_comparisons, marked);

	if (!watches_files) {
		struct proof *proof = find_proof(inode, marked);

		written = NULL;
		if (proof && proof->state == PROOF_DIFFERENT)
			return false;
	}
	if ((written && written->state == COMPARED_AND_DIFFERENT) || (asked && now - asked->state < COMPARISON_NS))
		return false;
	set_mark(&asked_comparisons, marked, now);
	return true;
}

static __always_inline bool is_overlay_file(struct inode *inode)
{
	return inode && inode->i_sb->s_magic == OVERLAYFS_SUPER_MAGIC && (inode->i_mode & S_IFMT) == S_IFREG;
}

/* The same of any address. The verifier takes milliseconds over each field of a pointer that it knows: seldom used programs use helpers. */
static __always_inline bool find_overlay_file(struct inode *inode, struct marked *marked)
{
	struct super_block *sb = BPF_CORE_READ(inode, i_sb);

	if (BPF_CORE_READ(sb, s_magic) != OVERLAYFS_SUPER_MAGIC || (BPF_CORE_READ(inode, i_mode) & S_IFMT) != S_IFREG)
		return false;
	marked->address = value_of(inode);
	marked->inode = BPF_CORE_READ(inode, i_ino);
	marked->dev = BPF_CORE_READ(sb, s_dev);
	return true;
}

#endif
