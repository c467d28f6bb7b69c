/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* One use of one file by one task: cheapest question first, decide, then report. */
#ifndef MOORING_JUDGE_H
#define MOORING_JUDGE_H

#include "file.h"
#include "report.h"
#include "verdict.h"

static __always_inline __u64 member_of(struct tables *tables, struct subject *subject)
{
	void *members = bpf_map_lookup_elem(&members_tables, &tables->half);
	__u64 *member = members ? bpf_map_lookup_elem(members, &subject->cgroup) : NULL;

	/* Entered, but not yet in the tables: it gets what the node says for unknown containers. */
	return member ? *member : tables->rules->unknown_member;
}

static __always_inline void ask_for_proof(struct scratch *scratch)
{
	struct request *request = &scratch->request;
	struct marked marked = {.address = request->inode, .inode = request->number, .dev = request->dev};
	struct lifecycle_record *record;

	if (!ask_for_comparison((struct inode *)request->inode, &marked))
		return;
	record = reserve_lifecycle(LIFECYCLE_PROVE);
	if (!record)
		return;
	record->cgroup = request->cgroup;
	record->inode = request->number;
	record->dev = request->dev;
	if (scratch->lower_inode) {
		struct inode *inode = (struct inode *)scratch->lower_inode;

		record->lower_inode = BPF_CORE_READ(inode, i_ino);
		record->lower_dev = BPF_CORE_READ(inode, i_sb, s_dev);
	}
	bpf_probe_read_kernel(record->path, NAME_LEN, &scratch->names[NAME_INDEX_PATH].key);
	bpf_probe_read_kernel(record->lower_path, NAME_LEN, &scratch->names[NAME_INDEX_LOWER].key);
	bpf_ringbuf_submit(record, 0);
}

/* What a violation is counted under. */
static __always_inline void fill_key(struct flood_key *key, __u64 cgroup, __u64 number, __u32 dev, __u32 file_class, __u32 use,
				     struct rules *rules, struct verdict *verdict)
{
	key->container = cgroup;
	key->inode = number;
	key->generation = rules->generation;
	key->drift = verdict->drift;
	key->prohibited = verdict->prohibited;
	key->prohibited_process = verdict->prohibited_process;
	key->dev = dev;
	key->file_class = file_class;
	key->use = use;
}

static __always_inline void note_counted(struct scratch *scratch, __u32 counted)
{
	scratch->request.tell = counted & TELL;
	scratch->record.aggregated = !(counted & NOT_COUNTED);
}

/* Counts what no list had to be asked for. By itself, so that the key is not on the stack of all that judge() calls. */
static __noinline __u32 count_by_class(struct subject *subject, struct target *target, __u32 use, struct rules *rules,
				       struct verdict *verdict)
{
	struct flood_key key;

	fill_key(&key, subject->cgroup, target->number, target->dev, target->file_class, use, rules, verdict);
	return count_violation(&key);
}

/* With the names: asks the lists, and counts. Positive: refused. */
__noinline int judge_by_lists(__u32 slot)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
	struct request *request;
	struct verdict *verdict;
	struct rules *rules;

	if (!scratch)
		return 0;
	request = &scratch->request;
	verdict = &scratch->verdict;
	__builtin_memset(verdict, 0, sizeof(*verdict));
	/* Those that the fast path saw, whatever is switched meanwhile. */
	rules = rules_of(request->half);
	if (!rules)
		return 1;
	judge_by_names(slot, request->half);
	if (!violated(verdict))
		return 0;
	fill_key(&scratch->record.key, request->cgroup, request->number, request->dev, request->file_class, request->use, rules,
		 verdict);
	note_counted(scratch, count_violation(&scratch->record.key));
	return verdict->denied ? 1 : 0;
}

/* Tells the agent what it has to know of a violation. */
__noinline int tell(__u32 slot)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);

	if (!scratch || !violated(&scratch->verdict))
		return 0;
	/* A new file is asked for with its first report only: most are what they seem. */
	if (scratch->request.unproved ||
	    (scratch->request.file_class == CLASS_NEW_BINARY && scratch->request.root_is_overlay && scratch->request.tell))
		ask_for_proof(scratch);
	if (!scratch->request.tell)
		return 0;
	scratch->record.denied = scratch->verdict.denied;
	scratch->record.killed = kills;
	for (int i = 0; i < NAMES_TOLD; i++) {
		scratch->record.name_states[i] = scratch->names[i].state;
		scratch->record.names[i] = scratch->names[i].key;
	}
	fill_process(&scratch->record);
	fill_arguments(slot);
	send_violation(&scratch->record);
	return 0;
}

/* The file of a request. What else is asked of it is filled in beside. */
static __always_inline void fill_file(struct request *request, struct container *container, struct target *target)
{
	request->inode = (__u64)target->inode;
	request->dentry = (__u64)target->dentry;
	request->mnt = (__u64)target->mnt;
	request->volume = target->volume;
	request->number = target->number;
	request->dev = target->dev;
	request->root_dev = container->root_dev;
	request->root_is_overlay = container->flags & CONTAINER_ROOT_OVERLAY;
	request->file_class = target->file_class < CLASSES ? target->file_class : CLASS_FOREIGN_MOUNT;
}

/*
 * Makes the program that executes the slot's file: the file that the current task's memory was made of, which a child that was only
 * forked shares. The request says who asks. Not 0: nobody knows it.
 */
__noinline int find_caller(__u32 slot)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct mm_struct *mm = LOAD(task, mm);
	struct file *file = LOAD(mm, exe_file);
	struct inode *inode = LOAD(file, f_inode);
	struct target target = {};
	struct subject subject = {};

	if (!scratch || !inode)
		return -1;
	subject.cgroup = scratch->request.cgroup;
	subject.container = bpf_map_lookup_elem(&containers, &subject.cgroup);
	if (!subject.container)
		return -1;
	fill_target_at(&target, inode, LOAD(file, f_path.dentry), LOAD(file, f_path.mnt));
	classify(&subject, &target);
	fill_file(&scratch->request, subject.container, &target);
	return 0;
}

/* Finds out what the lists of processes say of the program that executes. */
static __always_inline void ask_of_caller(__u32 slot, struct scratch *scratch, struct tables *tables)
{
	if (find_caller(slot)) {
		scratch->caller.prohibited_process = tables->rules->prohibit_process_lists;
		return;
	}
	name_path(slot);
	name_lower(slot);
	judge_caller(slot, tables->half);
}

/*
 * True: refused. `invoked` is the name it was invoked with, or NULL. `early`: only what no list can change is decided, the
 * rest is left to the hook that comes later. `runs_caller`: the current task's program is the one that executes; where it has become the
 * new one already nobody knows it any more, and the lists of processes say nothing.
 */
static __always_inline bool judge(struct tables *tables, struct subject *subject, struct target *target, __u32 use,
				  const char *invoked, bool early, bool runs_caller)
{
	struct rules *rules = tables->rules;
	__u64 member = member_of(tables, subject);
	struct verdict verdict = {};
	struct scratch *scratch;
	bool by_names, by_caller, refused;
	__u32 file_class, slot, counted = 0;
	__u64 drift;

	if (!member)
		return false;
	classify(subject, target);
	file_class = target->file_class;
	if (file_class >= CLASSES)
		file_class = CLASS_FOREIGN_MOUNT;
	target->file_class = file_class;
	drift = member & rules->detects[use][file_class];
	by_caller = use == USE_EXECUTE && runs_caller && process_lists_matter(rules, member, drift);
	by_names = by_caller || lists_matter(rules, member, drift);
	/* Which of the two uses an early open leads to is not certain: only what both refuse is refused there. */
	if (early && (by_names || target->unproved || !(drift & rules->prevents & rules->detects[USE_MAP][file_class])))
		return false;
	if (!drift && !by_names)
		return false;

	if (!by_names) {
		verdict_of(rules, member, use, file_class, 0, 0, 0, &verdict);
		counted = count_by_class(subject, target, use, rules, &verdict);
		if (!(counted & TELL) && !target->unproved)
			return verdict.denied != 0;
	}
	scratch = claim_scratch(&slot);
	if (!scratch) {
		if (by_names)
			verdict_of(rules, member, use, file_class, 0, rules->prohibit_lists,
				   by_caller ? rules->prohibit_process_lists : 0, &verdict);
		return verdict.denied != 0;
	}
	scratch->request.cgroup = subject->cgroup;
	scratch->request.member = member;
	scratch->request.half = tables->half;
	scratch->caller.excepted_process = 0;
	scratch->caller.prohibited_process = 0;
	if (by_caller) {
		ask_of_caller(slot, scratch, tables);
		/* The usual answer: nothing is said of this program, and nothing else is to be asked. */
		if (!lists_matter(rules, member, drift) &&
		    !((drift & ~scratch->caller.excepted_process) | (member & scratch->caller.prohibited_process))) {
			release_scratch(slot);
			return false;
		}
	}
	fill_file(&scratch->request, subject->container, target);
	scratch->request.invoked = (__u64)invoked;
	scratch->request.use = use;
	scratch->request.unproved = target->unproved;
	if (!by_names) {
		fill_key(&scratch->record.key, subject->cgroup, target->number, target->dev, file_class, use, rules, &verdict);
		note_counted(scratch, counted);
	}
	name_path(slot);
	name_lower(slot);
	/* Not even verified for a hook that invokes nothing. */
	if (invoked) {
		name_invoked(slot);
		name_alias(slot);
	} else {
		clear_name(&scratch->names[NAME_INDEX_INVOKED]);
		clear_name(&scratch->names[NAME_INDEX_ALIAS]);
	}
	if (by_names) {
		refused = judge_by_lists(slot) > 0;
	} else {
		scratch->verdict = verdict;
		refused = verdict.denied != 0;
	}
	tell(slot);
	release_scratch(slot);
	return refused;
}

#endif
