/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The verdict: masks in, masks out. crates/policy has the same function in Rust, and a test compares the two. */
#ifndef MOORING_VERDICT_H
#define MOORING_VERDICT_H

#include "scratch.h"

static __always_inline void verdict_of(struct rules *rules, __u64 member, __u32 use, __u32 file_class, struct path_rule *lists,
				       struct verdict *verdict)
{
	__u32 index = use * CLASSES + file_class;
	/* What cannot be would be drift. */
	__u64 detects = ~0ULL;

	/* Made anew before its check, or the compiler may use a copy that the verifier does not know to be checked. */
	barrier_var(index);
	if (use < USES && file_class < CLASSES && index < USES * CLASSES)
		detects = rules->detects[0][index];
	verdict->drift = member & detects & ~(lists->excepted | lists->excepted_process);
	verdict->prohibited = member & lists->prohibited;
	verdict->prohibited_process = member & lists->prohibited_process;
	verdict->denied = (verdict->drift | verdict->prohibited | verdict->prohibited_process) & rules->prevents;
}

static __always_inline __u64 violated(struct verdict *verdict)
{
	return verdict->drift | verdict->prohibited | verdict->prohibited_process;
}

/* Whether a list can change the answer: only then are the names found out. */
static __always_inline bool lists_matter(struct rules *rules, __u64 member, __u64 drift)
{
	return (drift & rules->except_lists) || (member & rules->prohibit_lists);
}

/* The same of the lists of processes: only then is the program looked at that executes. */
static __always_inline bool process_lists_matter(struct rules *rules, __u64 member, __u64 drift)
{
	return (drift & rules->except_process_lists) || (member & rules->prohibit_process_lists);
}

/* The state that a name leads to in the table of patterns in `half`; negative where there is none. */
__noinline int walk_patterns(__u32 slot, __u32 index, __u32 half)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
	void *patterns = bpf_map_lookup_elem(&patterns_tables, &half);
	struct rules *rules = rules_of(half);
	__u32 state = PATTERN_START, offset;
	struct name *name;

	if (!scratch || !patterns || !rules || index >= NAMES)
		return -1;
	name = &scratch->names[index];
	offset = name->offset;
	for (__u32 i = 0; i < NAME_LEN; i++) {
		struct pattern_state *from;
		__u32 at = offset + i;
		__u8 class;

		if (at >= NAME_LEN || !state)
			break;
		from = bpf_map_lookup_elem(patterns, &state);
		if (!from)
			return -1;
		class = rules->pattern_classes[name->key.bytes[at & (NAME_LEN - 1)]];
		state = from->next[class & (PATTERN_CLASSES - 1)];
	}
	return state;
}

static __always_inline void add_rule(struct path_rule *said, struct path_rule *rule)
{
	said->excepted |= rule->excepted;
	said->prohibited |= rule->prohibited;
	said->excepted_process |= rule->excepted_process;
	said->prohibited_process |= rule->prohibited_process;
}

/*
 * What the lists say of one name. A name that could not be found out is in every list of
 * prohibited ones, and excepted by none.
 */
static __always_inline void look_up_name(__u32 slot, struct scratch *scratch, struct tables *tables, void *paths, __u64 member,
					 __u32 index, struct path_rule *said)
{
	struct name *name = &scratch->names[index];
	struct rules *rules = tables->rules;

	if (name->state == NAME_PATH) {
		struct path_rule *rule = paths ? bpf_map_lookup_elem(paths, &name->key) : NULL;

		if (rule)
			add_rule(said, rule);
		if (member & rules->pattern_lists) {
			int state = walk_patterns(slot, index, tables->half);
			void *patterns = bpf_map_lookup_elem(&patterns_tables, &tables->half);
			struct pattern_state *end = patterns && state >= 0 ? bpf_map_lookup_elem(patterns, &state) : NULL;

			if (end) {
				add_rule(said, &end->rule);
			} else {
				said->prohibited |= rules->prohibit_lists;
				said->prohibited_process |= rules->prohibit_process_lists;
			}
		}
	} else if (name->state == NAME_UNRESOLVED) {
		said->prohibited |= rules->prohibit_lists;
		said->prohibited_process |= rules->prohibit_process_lists;
	}
}

/*
 * Whether the lists have been asked of this name under another index. An image's file has nearly always one name only, and to compare two
 * costs a fraction of a look-up.
 */
static __always_inline bool is_same_name(struct scratch *scratch, __u32 index, __u32 asked)
{
	__u64 *one = (__u64 *)scratch->names[index].key.bytes, *other = (__u64 *)scratch->names[asked].key.bytes;
	__u64 different = scratch->names[index].state ^ scratch->names[asked].state;

	for (__u32 i = 0; i < NAME_LEN / sizeof(__u64); i++)
		different |= one[i] ^ other[i];
	return !different;
}

/*
 * What the lists of processes say of the program that executes, whose names and class are in the scratch. It gains an exception only as
 * the image's own, by its path in the image, and is prohibited whatever became of its file.
 */
__noinline int judge_caller(__u32 slot, __u32 half)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
	struct path_rule path = {}, lower = {};
	struct tables tables = {.half = half};
	void *paths = bpf_map_lookup_elem(&paths_tables, &half);
	__u64 member;

	if (!scratch)
		return -1;
	scratch->caller.excepted = 0;
	scratch->caller.prohibited = 0;
	scratch->caller.excepted_process = 0;
	scratch->caller.prohibited_process = 0;
	tables.rules = rules_of(half);
	/* A foreign mount's file is in no list by its path: whoever may mount could give it any. */
	if (!tables.rules || scratch->request.file_class == CLASS_FOREIGN_MOUNT)
		return 0;
	member = scratch->request.member;
	look_up_name(slot, scratch, &tables, paths, member, NAME_INDEX_PATH, &path);
	if (is_same_name(scratch, NAME_INDEX_LOWER, NAME_INDEX_PATH))
		lower = path;
	else
		look_up_name(slot, scratch, &tables, paths, member, NAME_INDEX_LOWER, &lower);
	scratch->caller.prohibited_process = path.prohibited_process | lower.prohibited_process;
	if (scratch->request.file_class == CLASS_IMAGE)
		scratch->caller.excepted_process =
		    scratch->names[NAME_INDEX_LOWER].state == NAME_NONE ? path.excepted_process : lower.excepted_process;
	return 0;
}

static __always_inline void judge_by_names(__u32 slot, struct scratch *scratch, struct tables *tables, __u64 member, __u32 use,
					   __u32 file_class, struct verdict *verdict)
{
	struct path_rule said = {}, others = {};
	void *paths = bpf_map_lookup_elem(&paths_tables, &tables->half);
	/* A foreign mount's file is in no list by its path: whoever may mount could give it any. */
	bool foreign = file_class == CLASS_FOREIGN_MOUNT;

	if (!foreign)
		look_up_name(slot, scratch, tables, paths, member, NAME_INDEX_PATH, &said);
	if (foreign || !is_same_name(scratch, NAME_INDEX_LOWER, NAME_INDEX_PATH))
		look_up_name(slot, scratch, tables, paths, member, NAME_INDEX_LOWER, &others);
	if (use == USE_EXECUTE) {
		if (foreign || !is_same_name(scratch, NAME_INDEX_INVOKED, NAME_INDEX_PATH))
			look_up_name(slot, scratch, tables, paths, member, NAME_INDEX_INVOKED, &others);
		look_up_name(slot, scratch, tables, paths, member, NAME_INDEX_ALIAS, &others);
	}
	said.prohibited |= others.prohibited;
	/* What they say of this file as a process is of no concern here. */
	said.excepted_process = scratch->caller.excepted_process;
	said.prohibited_process = scratch->caller.prohibited_process;
	verdict_of(tables->rules, member, use, file_class, &said, verdict);
}

#endif
