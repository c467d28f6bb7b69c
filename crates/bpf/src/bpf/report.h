/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What the agent is told. Nothing here changes a verdict. */
#ifndef MOORING_REPORT_H
#define MOORING_REPORT_H

#include "names.h"

static __always_inline void *floods_now(void)
{
	__u32 zero = 0;
	__u32 *turn = bpf_map_lookup_elem(&floods_turn, &zero);

	return turn && *turn ? (void *)&floods_1 : (void *)&floods_0;
}

/* Somebody has to be told: it is the first of its kind, or could not be counted. */
#define TELL 1
/* There was no room to count it in. */
#define NOT_COUNTED 2

/* Generation 0 is the self-test's: nobody is told. */
static __always_inline __u32 count_violation(struct flood_key *key)
{
	void *floods = floods_now();
	struct flood *flood = bpf_map_lookup_elem(floods, key);
	struct flood first = {.count = 1, .last_seen = bpf_ktime_get_ns()};

	if (!key->generation)
		return 0;
	if (!flood) {
		if (!bpf_map_update_elem(floods, key, &first, BPF_NOEXIST))
			return TELL;
		flood = bpf_map_lookup_elem(floods, key);
		if (!flood)
			return TELL | NOT_COUNTED;
	}
	__sync_fetch_and_add(&flood->count, 1);
	flood->last_seen = bpf_ktime_get_ns();
	return flood->reported ? 0 : TELL;
}

static __always_inline void fill_process(struct violation_record *record)
{
	struct task_struct *task = current_task();
	struct task_struct *parent = READ(task, real_parent);
	__u64 id = bpf_get_current_pid_tgid();
	__u64 user = bpf_get_current_uid_gid();

	record->time = bpf_ktime_get_ns();
	record->pid = id >> 32;
	record->tid = (__u32)id;
	record->uid = (__u32)user;
	record->gid = user >> 32;
	bpf_get_current_comm(record->comm, sizeof(record->comm));
	if (parent) {
		record->parent_pid = READ(parent, tgid);
		bpf_core_read(record->parent_comm, sizeof(record->parent_comm), &parent->comm);
	}
}

/* What the current system call was given, or NULL where nothing says. */
static __always_inline struct pt_regs *system_call_registers(void)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id___known, BPF_FUNC_task_pt_regs___known))
		return (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
#if defined(__TARGET_ARCH_x86)
	/* Up to 5.14 nothing lies between the registers and the stack's end (16 KiB). */
	return BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), stack) + 16384 - bpf_core_type_size(struct pt_regs);
#else
	return NULL;
#endif
}

/* The user's argv, in an execve or execveat of this architecture's own; else 0. */
static __always_inline __u64 argument_vector(void)
{
	struct pt_regs *registers = system_call_registers();

	if (!registers)
		return 0;
#if defined(__TARGET_ARCH_x86)
	switch (BPF_CORE_READ(registers, orig_ax)) {
	case 59:
		return BPF_CORE_READ(registers, si);
	case 322:
		return BPF_CORE_READ(registers, dx);
	}
#elif defined(__TARGET_ARCH_arm64)
	switch (BPF_CORE_READ(registers, syscallno)) {
	case 221:
		return BPF_CORE_READ(registers, regs[1]);
	case 281:
		return BPF_CORE_READ(registers, regs[2]);
	}
#endif
	return 0;
}

#define ARGUMENTS 16

/* Of what is being executed, or of the process that maps. What has no page in memory is left out. */
__noinline int fill_arguments(__u32 slot)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u64 vector = 0, next = 0, end = 0;
	__u32 filled = 0;

	if (!scratch)
		return -1;
	if (scratch->request.use == USE_EXECUTE) {
		vector = argument_vector();
	} else {
		next = BPF_CORE_READ(task, mm, arg_start);
		end = BPF_CORE_READ(task, mm, arg_end);
	}
	for (__u32 i = 0; i < ARGUMENTS && filled < ARGS_LEN; i++) {
		long length;

		if (vector && bpf_probe_read_user(&next, sizeof(next), (void *)(vector + i * sizeof(next))))
			break;
		if (!next || (!vector && next >= end))
			break;
		length = bpf_probe_read_user_str(&scratch->record.args[filled & (ARGS_LEN - 1)], ARG_LEN, (void *)next);
		if (length <= 0)
			break;
		filled += length;
		next += length;
	}
	scratch->record.args_len = filled;
	return 0;
}

static __always_inline void send_violation(struct violation_record *record)
{
	if (bpf_ringbuf_output(&violations, record, sizeof(*record), 0)) {
		count(COUNTER_LOST_REPORTS);
		return;
	}
	if (record->aggregated) {
		struct flood *flood = bpf_map_lookup_elem(floods_now(), &record->key);

		if (flood)
			flood->reported = 1;
	}
}

static __always_inline struct lifecycle_record *reserve_lifecycle(__u32 kind)
{
	struct lifecycle_record *record = bpf_ringbuf_reserve(&lifecycle, sizeof(*record), 0);

	if (!record) {
		count(COUNTER_LOST_LIFECYCLE);
		return NULL;
	}
	record->kind = kind;
	record->pid = bpf_get_current_pid_tgid() >> 32;
	record->cgroup = 0;
	record->parent = 0;
	record->inode = 0;
	record->lower_inode = 0;
	record->dev = 0;
	record->lower_dev = 0;
	record->path[0] = 0;
	record->lower_path[0] = 0;
	return record;
}

#endif
