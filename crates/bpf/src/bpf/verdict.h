/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The verdict: masks in, masks out. crates/policy has the same function in Rust, and a test compares the two. */
#ifndef MOORING_VERDICT_H
#define MOORING_VERDICT_H

#include "maps.h"

static __always_inline void verdict_of(struct rules *rules, __u64 member, __u32 use, __u32 file_class, __u64 excepted,
				       __u64 prohibited, struct verdict *verdict)
{
	__u32 index = use * CLASSES + file_class;
	/* What cannot be would be drift. */
	__u64 detects = ~0ULL;

	/* Made anew before its check, or the compiler may use a copy that the verifier does not know to be checked. */
	barrier_var(index);
	if (use < USES && file_class < CLASSES && index < USES * CLASSES)
		detects = rules->detects[0][index];
	verdict->drift = member & detects & ~excepted;
	verdict->prohibited = member & prohibited;
	verdict->denied = (verdict->drift | verdict->prohibited) & rules->prevents;
}

/* Whether a list can change the answer: only then are the names found out. */
static __always_inline bool lists_matter(struct rules *rules, __u64 member, __u64 drift)
{
	return (drift & rules->except_lists) || (member & rules->prohibit_lists);
}

/* What the lists say of one name. A name that could not be found out is in every list of prohibited ones, and excepted by none. */
static __always_inline void look_up_name(void *paths, struct rules *rules, struct name *name, __u64 *excepted, __u64 *prohibited)
{
	if (name->state == NAME_PATH) {
		struct path_rule *rule = paths ? bpf_map_lookup_elem(paths, &name->key) : NULL;

		if (rule) {
			*excepted = rule->excepted;
			*prohibited |= rule->prohibited;
		}
	} else if (name->state == NAME_UNRESOLVED) {
		*prohibited |= rules->prohibit_lists;
	}
}

static __always_inline void judge_by_names(struct tables *tables, __u64 member, __u32 use, __u32 file_class, struct name *names,
					   struct verdict *verdict)
{
	__u64 excepted = 0, ignored = 0, prohibited = 0;
	void *paths = bpf_map_lookup_elem(&paths_tables, &tables->half);

	/* A foreign mount's file is in no list by its path: whoever may mount could give it any. */
	if (file_class != CLASS_FOREIGN_MOUNT)
		look_up_name(paths, tables->rules, &names[NAME_INDEX_PATH], &excepted, &prohibited);
	look_up_name(paths, tables->rules, &names[NAME_INDEX_LOWER], &ignored, &prohibited);
	if (use == USE_EXECUTE) {
		look_up_name(paths, tables->rules, &names[NAME_INDEX_INVOKED], &ignored, &prohibited);
		look_up_name(paths, tables->rules, &names[NAME_INDEX_ALIAS], &ignored, &prohibited);
	}
	verdict_of(tables->rules, member, use, file_class, excepted, prohibited, verdict);
}

#endif
