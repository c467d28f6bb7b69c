// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/* The programs. Each asks the cheapest question first; what they share is in the headers, which include only downwards. */
#include "judge.h"
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

const struct wire_types *const volatile wire_types = NULL;

/* A branch, not arithmetic: newer kernels want to see that a hook returns 0 or an error. */
static __always_inline int answer(bool refused)
{
	int error = 0;

	if (refused) {
		error = -EPERM;
		barrier_var(error);
	}
	return error;
}

/* Remembers what a task was allowed to execute: see struct executing. */
static __noinline void note_executing(struct task_struct *task, struct inode *inode)
{
	struct executing now = {.task = (__u64)task, .mm = (__u64)READ(task, mm), .inode = (__u64)inode};
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;

	bpf_map_update_elem(&executing, &tgid, &now, BPF_ANY);
}

static __always_inline struct executing *executing_of(struct task_struct *task)
{
	/* Not the thread: one that executes takes over its leader's id. */
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct executing *noted = bpf_map_lookup_elem(&executing, &tgid);

	return noted && noted->task == (__u64)task ? noted : NULL;
}

/* First exec in a cgroup that nobody has resolved yet: if it is a container, this is where its root is known for certain. */
static __noinline bool enter_unknown_container(struct task_struct *task, struct subject *subject)
{
	struct cgroup *cgroup = cgroup_of(task);
	struct kernfs_node *node = cgroup ? READ(cgroup, kn) : NULL;
	struct container unknown = {.flags = CONTAINER_UNKNOWN | CONTAINER_ROOT_OVERLAY};
	struct lifecycle_record *record;
	struct inode *root;
	struct super_block *sb;

	if (!node)
		return false;
	subject->cgroup = READ(node, id);
	if (!bpf_map_lookup_elem(&fresh_cgroups, &subject->cgroup))
		return false;
	root = BPF_CORE_READ(task, fs, root.dentry, d_inode);
	sb = BPF_CORE_READ(root, i_sb);
	if (BPF_CORE_READ(sb, s_magic) != OVERLAYFS_SUPER_MAGIC)
		return false;
	unknown.root_dev = BPF_CORE_READ(sb, s_dev);
	unknown.root_inode = BPF_CORE_READ(root, i_ino);
	if (bpf_map_update_elem(&containers, &subject->cgroup, &unknown, BPF_NOEXIST)) {
		count(COUNTER_CONTAINERS_FULL);
		return false;
	}
	record = reserve_lifecycle(LIFECYCLE_UNKNOWN_CONTAINER);
	if (record) {
		record->cgroup = subject->cgroup;
		bpf_ringbuf_submit(record, 0);
	}
	subject->container = bpf_map_lookup_elem(&containers, &subject->cgroup);
	return subject->container != NULL;
}

SEC("lsm/bprm_check_security")
int BPF_PROG(mooring_bprm_check_security, struct linux_binprm *bprm)
{
	struct task_struct *task = current_task();
	struct subject subject = {};
	struct target target = {};
	struct tables tables = {};
	struct file *file;
	bool refused;

	if (!find_container(cgroup_of(task), &subject)) {
		if (sees_host_root(task) || !is_in_force() || !enter_unknown_container(task, &subject))
			return 0;
	}
	if (!decides(&tables) || is_runtime(task, &subject))
		return 0;
	file = bprm->file;
	fill_target_of(&target, file);
	/* The new program's memory is not the task's own yet. */
	refused = judge(&tables, &subject, &target, USE_EXECUTE, bprm->interp, false, true);
	/* What a script opens next is a program, which comes by here itself. */
	if (!refused && !(bprm->buf[0] == '#' && bprm->buf[1] == '!'))
		note_executing(task, file->f_inode);
	return answer(refused);
}

/* See comes_from_outside(). */
static __noinline void note_inside(struct task_struct *task)
{
	struct executing now = {.task = (__u64)READ(task, signal)};
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;

	bpf_map_update_elem(&executing, &tgid, &now, BPF_ANY);
}

/*
 * Where the program that a task ran before is not known any more: is it the container runtime on its way in? It comes from outside, as
 * its parent does, and has executed nothing inside.
 */
static __noinline bool comes_from_outside(struct task_struct *task, struct subject *subject)
{
	struct task_struct *parent = READ(task, real_parent);
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct executing *noted = bpf_map_lookup_elem(&executing, &tgid);
	struct subject of_parent = {};

	if (!is_runtime(task, subject))
		return false;
	if (noted && noted->task == (__u64)READ(task, signal))
		return false;
	return !parent || !find_container(cgroup_of(parent), &of_parent);
}

/*
 * Where nothing can be refused: not one instruction of the new program runs once the task has the signal. From 6.10 on this is attached to
 * sched_prepare_exec instead, where the task is still what it was; here memory and program are the new ones already, while namespaces, root
 * and cgroup are what they were.
 */
SEC("tp_btf/sched_process_exec")
int mooring_exec(__u64 *ctx)
{
	struct task_struct *task = current_task();
	struct subject subject = {};
	struct target target = {};
	struct tables tables = {};
	struct linux_binprm *bprm;
	struct file *file;
	bool refused;

	if (!find_container(cgroup_of(task), &subject)) {
		if (sees_host_root(task) || !is_in_force() || !enter_unknown_container(task, &subject))
			return 0;
	}
	if (!decides(&tables) || (exec_is_prepared ? is_runtime(task, &subject) : comes_from_outside(task, &subject)))
		return 0;
	if (exec_is_prepared) {
		bprm = (struct linux_binprm *)ctx[1];
		/* Or the compiler chooses the offset first, which the verifier does not take. */
		barrier_var(bprm);
	} else {
		bprm = (struct linux_binprm *)ctx[2];
	}
	/* Of a script its interpreter; the script itself is closed by now. */
	file = bprm->file;
	fill_target_of(&target, file);
	/* The lists of processes mean the same on every kernel here: nothing. */
	refused = judge(&tables, &subject, &target, USE_EXECUTE, bprm->interp, false, false);
	if (refused)
		bpf_send_signal(SIGKILL);
	else if (!exec_is_prepared)
		note_inside(task);
	return 0;
}

/*
 * Overlayfs opens the layer's file for a file of its own, with the same flags: what the process opened was judged just before.
 * Up to 6.7 such a file has the overlay's path and the layer's inode; since then it is on the layer's private mount, as
 * nothing is that a process can name. (The files of memfd are on an internal mount, too, but on a superblock of the kernel's.)
 */
static __always_inline bool is_opened_by_overlayfs(struct file *file, struct inode *inode)
{
	struct dentry *dentry = READ(file, f_path.dentry);
	struct super_block *sb = READ(inode, i_sb);
	struct mount *mount;

	if (READ(dentry, d_inode) != inode)
		return true;
	if (READ(sb, s_flags) & SB_KERNMOUNT)
		return false;
	mount = (void *)READ(file, f_path.mnt) - bpf_core_field_offset(struct mount, mnt);
	return LOAD(mount, mnt_ns) == MNT_NS_INTERNAL;
}

/* An executable is opened: the program itself, a script's interpreter, or an ELF interpreter, which no other hook sees before it is mapped. */
static __always_inline bool open_for_execution(struct file *file)
{
	struct task_struct *task = current_task();
	struct subject subject = {};
	struct target target = {};
	struct tables tables = {};
	struct executing *noted;

	if (!find_container(cgroup_of(task), &subject) || is_opened_by_overlayfs(file, file->f_inode) || !decides(&tables) ||
	    is_runtime(task, &subject))
		return false;
	fill_target_of(&target, file);
	noted = executing_of(task);
	if (noted && noted->mm == (__u64)READ(task, mm))
		return judge(&tables, &subject, &target, USE_MAP, NULL, false, false);
	return judge(&tables, &subject, &target, USE_EXECUTE, NULL, true, true);
}

SEC("lsm/file_open")
int BPF_PROG(mooring_file_open, struct file *file)
{
	struct inode *inode;

	if (file->f_flags & FMODE_EXEC_FLAG)
		return answer(open_for_execution(file));
	if (!(file->f_mode & FMODE_WRITE))
		return 0;
	/* Whoever is in force: a written mark only makes the answer stricter. */
	inode = file->f_inode;
	if (is_overlay_file(inode)) {
		struct marked marked = {.address = (__u64)inode, .inode = inode->i_ino, .dev = inode->i_sb->s_dev};

		mark_written(inode, &marked);
	}
	return 0;
}

/*
 * A mapping of an overlay file is one of its backing file. Since 6.8 f_path is the backing file's, too, and what the process
 * opened lies behind it in struct backing_file. The flag that tells such files apart has moved between kernels; instead,
 * what is read there counts only if it is an overlay file with this very file as its upper or lower.
 */
static __always_inline bool find_overlay_target(struct file *file, struct target *target)
{
	struct inode *inode, *backing = file->f_inode;
	struct path user_path = {};
	struct dentry *dentry;
	struct super_block *sb;

	bpf_probe_read_kernel(&user_path, sizeof(user_path), (void *)file + bpf_core_field_offset(struct backing_file, user_path));
	dentry = user_path.dentry;
	inode = BPF_CORE_READ(dentry, d_inode);
	sb = BPF_CORE_READ(inode, i_sb);
	if (BPF_CORE_READ(sb, s_magic) != OVERLAYFS_SUPER_MAGIC)
		return false;
	if (BPF_CORE_READ(upper_of(inode), d_inode) != backing && lower_inode_of(inode) != backing)
		return false;
	fill_target_at(target, inode, dentry, user_path.mnt);
	return true;
}

/* The file of a mapping that was made before. False: it is memory. */
static __always_inline bool find_protected_target(struct file *file, struct target *target)
{
	struct dentry *dentry;
	struct inode *inode;

	if (bpf_core_field_exists(struct backing_file, user_path) && find_overlay_target(file, target))
		return true;
	/* Before that, f_path is what the process opened, and f_inode may be the backing file's. */
	dentry = READ(file, f_path.dentry);
	inode = READ(dentry, d_inode);
	if (!inode || is_kernel_memory(inode, dentry))
		return false;
	fill_target(target, inode, dentry, READ(file, f_path.mnt));
	return true;
}

/* `is_made`: the mapping was made before, and is to become executable. */
static __always_inline bool judge_mapping(struct file *file, bool is_made)
{
	struct task_struct *task = current_task();
	struct subject subject = {};
	struct target target = {};
	struct tables tables = {};
	struct executing *noted;

	/* The cheap question: most tasks are in no container. */
	if (!find_container(cgroup_of(task), &subject) || !decides(&tables) || is_runtime(task, &subject))
		return false;
	if (!is_made)
		fill_target_of(&target, file);
	else if (!find_protected_target(file, &target))
		return false;
	/* The program itself, mapped by execve into its new memory, was judged as a program. */
	noted = executing_of(task);
	if (noted && noted->inode == (__u64)target.inode && noted->mm != (__u64)READ(task, mm))
		return false;
	return judge(&tables, &subject, &target, USE_MAP, NULL, false, false);
}

/*
 * The function security_mmap_file() is asked before it adds what the process's personality asks for; the hook that it calls is
 * asked after that (mmap_prot() in security/security.c).
 */
static __always_inline unsigned long implied_protection(struct file *file, unsigned long prot)
{
	struct task_struct *task = current_task();
	struct vfsmount *mnt = READ(file, f_path.mnt);

	if ((prot & (PROT_READ | PROT_EXEC)) != PROT_READ || !(READ(task, personality) & READ_IMPLIES_EXEC))
		return prot;
	return READ(mnt, mnt_flags) & MNT_NOEXEC ? prot : prot | PROT_EXEC;
}

SEC("lsm/mmap_file")
int mooring_mmap_file(__u64 *ctx)
{
	struct file *file = (struct file *)ctx[0];
	unsigned long prot, flags;

	if (!file)
		return 0;
	if (attached_to_functions) {
		flags = ctx[2];
		prot = implied_protection(file, ctx[1]);
	} else {
		flags = ctx[3];
		prot = ctx[2];
	}
	/* Anonymous memory has a file where it is of huge pages, and it is never one that a descriptor was given for. */
	if (!(prot & PROT_EXEC) || (flags & MAP_ANONYMOUS))
		return 0;
	/* Devices are mapped with PROT_EXEC by drivers and for anonymous memory; they hold no program. */
	if ((file->f_inode->i_mode & S_IFMT) != S_IFREG)
		return 0;
	/* Attached by shmat(), which has data of its own in the file; one that was opened by /proc/PID/map_files has none. */
	if (file->private_data && is_kernel_memory(file->f_inode, READ(file, f_path.dentry)))
		return 0;
	return answer(judge_mapping(file, false));
}

SEC("lsm/file_mprotect")
int BPF_PROG(mooring_file_mprotect, struct vm_area_struct *vma, unsigned long reqprot, unsigned long prot)
{
	struct inode *inode;
	struct file *file;

	if (!(prot & PROT_EXEC))
		return 0;
	if (vma->vm_flags & VM_EXEC)
		return 0;
	file = vma->vm_file;
	if (!file)
		return 0;
	inode = file->f_inode;
	if (!inode || (inode->i_mode & S_IFMT) != S_IFREG)
		return 0;
	return answer(judge_mapping(file, true));
}

/*
 * Who executes is known by the file of its memory, and a process may have the kernel take another for that: not where a policy lists
 * processes. Before Linux 6.8, and on no overlay, it would have to unmap its own program first.
 */
static __always_inline bool may_change_its_program(void)
{
	struct subject subject = {};
	struct tables tables = {};

	if (!find_container(cgroup_of(current_task()), &subject) || !decides(&tables))
		return true;
	return !(member_of(&tables, &subject) & (tables.rules->except_process_lists | tables.rules->prohibit_process_lists));
}

/* 0 leaves the call to whoever is asked next, though the hook's own default is another. */
SEC("lsm/task_prctl")
int mooring_task_prctl(__u64 *ctx)
{
	/* The kernel looks at these bits only (prctl_set_mm() in kernel/sys.c). */
	__u32 option = ctx[0], what = ctx[1];

	return answer(option == PR_SET_MM && (what == PR_SET_MM_EXE_FILE || what == PR_SET_MM_MAP) && !may_change_its_program());
}

static __always_inline void metadata_changes(struct dentry *dentry)
{
	struct inode *inode = BPF_CORE_READ(dentry, d_inode);
	struct marked marked = {};

	if (find_overlay_file(inode, &marked) && is_in_force())
		mark_clean_before_copy_up(inode, &marked);
}

static __always_inline void attributes_change(struct dentry *dentry, struct iattr *attributes)
{
	struct inode *inode = BPF_CORE_READ(dentry, d_inode);
	struct marked marked = {};

	if (!find_overlay_file(inode, &marked) || !is_in_force())
		return;
	if (attributes->ia_valid & ATTR_SIZE)
		mark_written(inode, &marked);
	else
		mark_clean_before_copy_up(inode, &marked);
}

/* Some hooks got another first argument with time; the agent finds in the kernel's BTF where the dentry is. */
SEC("lsm/inode_setattr")
int mooring_inode_setattr(__u64 *ctx)
{
	if (setattr_dentry_argument == 0)
		attributes_change((struct dentry *)ctx[0], (struct iattr *)ctx[1]);
	else
		attributes_change((struct dentry *)ctx[1], (struct iattr *)ctx[2]);
	return 0;
}

SEC("lsm/inode_setxattr")
int mooring_inode_setxattr(__u64 *ctx)
{
	if (setxattr_dentry_argument == 0)
		metadata_changes((struct dentry *)ctx[0]);
	else
		metadata_changes((struct dentry *)ctx[1]);
	return 0;
}

SEC("lsm/inode_removexattr")
int mooring_inode_removexattr(__u64 *ctx)
{
	if (removexattr_dentry_argument == 0)
		metadata_changes((struct dentry *)ctx[0]);
	else
		metadata_changes((struct dentry *)ctx[1]);
	return 0;
}

/* 6.2 and later; before, an ACL is set as an attribute. */
SEC("lsm/inode_set_acl")
int mooring_inode_set_acl(__u64 *ctx)
{
	metadata_changes((struct dentry *)ctx[1]);
	return 0;
}

SEC("lsm/inode_remove_acl")
int mooring_inode_remove_acl(__u64 *ctx)
{
	metadata_changes((struct dentry *)ctx[1]);
	return 0;
}

/* 6.17 and later: chattr. */
SEC("lsm/inode_file_setattr")
int mooring_inode_file_setattr(__u64 *ctx)
{
	metadata_changes((struct dentry *)ctx[0]);
	return 0;
}

SEC("lsm/inode_link")
int BPF_PROG(mooring_inode_link, struct dentry *old_dentry, struct inode *dir, struct dentry *new_dentry)
{
	metadata_changes(old_dentry);
	return 0;
}

SEC("lsm/inode_rename")
int BPF_PROG(mooring_inode_rename, struct inode *old_dir, struct dentry *old_dentry, struct inode *new_dir,
	     struct dentry *new_dentry)
{
	metadata_changes(old_dentry);
	return 0;
}

/* Another file may get this address and number. */
SEC("lsm/inode_free_security")
int BPF_PROG(mooring_inode_free_security, struct inode *inode)
{
	struct marked marked = {};

	if (find_overlay_file(inode, &marked))
		bpf_map_delete_elem(&clean_marks, &marked.address);
	return 0;
}

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(mooring_cgroup_mkdir, struct cgroup *cgroup, const char *path)
{
	struct cgroup_subsys_state *parent = cgroup->self.parent;
	struct lifecycle_record *record;
	struct subject subject = {};
	__u64 id = cgroup->kn->id;
	__u32 maker;

	/* The others have their own mkdir for the same container. */
	if (cgroup->root->hierarchy_id != hierarchy || !is_in_force())
		return 0;
	/* Below a tracked cgroup everything is that container's, whatever it is called. */
	if (parent && find_container(parent->cgroup, &subject))
		return 0;
	maker = bpf_get_current_pid_tgid() >> 32;
	bpf_map_update_elem(&fresh_cgroups, &id, &maker, BPF_ANY);
	record = reserve_lifecycle(LIFECYCLE_CGROUP_MADE);
	if (!record)
		return 0;
	record->cgroup = id;
	record->parent = parent ? parent->cgroup->kn->id : 0;
	bpf_probe_read_kernel_str(record->path, sizeof(record->path), path);
	bpf_ringbuf_submit(record, 0);
	return 0;
}

SEC("tp_btf/cgroup_release")
int BPF_PROG(mooring_cgroup_release, struct cgroup *cgroup, const char *path)
{
	struct lifecycle_record *record;
	struct tables tables = {};
	__u64 id = cgroup->kn->id;
	void *members;

	/* Another hierarchy's has the same number as one of these. */
	if (cgroup->root->hierarchy_id != hierarchy)
		return 0;
	if (!decides(&tables))
		return 0;
	bpf_map_delete_elem(&fresh_cgroups, &id);
	if (bpf_map_delete_elem(&containers, &id))
		return 0;
	members = bpf_map_lookup_elem(&members_tables, &tables.half);
	if (members)
		bpf_map_delete_elem(members, &id);
	record = reserve_lifecycle(LIFECYCLE_CGROUP_RELEASED);
	if (!record)
		return 0;
	record->cgroup = id;
	bpf_ringbuf_submit(record, 0);
	return 0;
}

/* A path that was given to another file meanwhile proves nothing. */
static __always_inline bool is_another_lower(struct inode *lower, __u64 number, __u64 dev)
{
	return lower && (BPF_CORE_READ(lower, i_ino) != number || BPF_CORE_READ(lower, i_sb, s_dev) != dev);
}

/* The agent begins no sooner than some time after the last change: one within the same tick of the file system's clock would not show. */
static __noinline int prove_unwatched(struct inode *inode, struct marked *marked, __u64 step, __u64 number, __u64 dev)
{
	struct inode *upper = BPF_CORE_READ(upper_of(inode), d_inode);
	struct proof new = {.inode = marked->inode, .dev = marked->dev, .state = PROOF_BEGUN};
	struct proof *proof;

	if (step == PROVE_BEGIN) {
		if (!upper || is_another_lower(lower_inode_of(inode), number, dev))
			return -3;
		/* First: whoever opens it for writing afterwards changes it after this. */
		stamp(upper, &new);
		if (is_open_for_writing(inode, upper))
			return -2;
		return bpf_map_update_elem(&proofs, &marked->address, &new, BPF_ANY) ? -3 : 0;
	}
	proof = find_proof(inode, marked);
	if (!proof)
		return -2;
	proof->state = step == PROVE_COMMIT ? PROOF_EQUAL : PROOF_DIFFERENT;
	return 0;
}

/* Run by the agent on a file that it holds open: see enum prove_step. 0 when the step was made. */
SEC("raw_tp")
int mooring_prove(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 fd = ctx->args[0], step = ctx->args[1];
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u32 zero = 0, one = 1;
	struct marked marked = {};
	struct inode *inode, *lower, *upper;
	struct file **table;
	struct file *file = NULL;

	if (fd >= BPF_CORE_READ(task, files, fdt, max_fds))
		return -1;
	table = BPF_CORE_READ(task, files, fdt, fd);
	bpf_probe_read_kernel(&file, sizeof(file), table + fd);
	if (!file)
		return -1;
	inode = BPF_CORE_READ(file, f_inode);
	if (!find_overlay_file(inode, &marked))
		return -1;
	if (!watches_files)
		return prove_unwatched(inode, &marked, step, ctx->args[2], ctx->args[3]);
	if (step == PROVE_REFUTE) {
		bpf_map_delete_elem(&clean_marks, &marked.address);
		return set_mark(&written_marks, &marked, COMPARED_AND_DIFFERENT) ? 0 : -3;
	}
	/* While the entry is there, no writer has passed unseen. */
	if (step == PROVE_COMMIT)
		return mark_in(&clean_marks, &marked) && mark_clean(&marked) ? 0 : -2;
	/* It is compared with this file of the image. */
	lower = lower_inode_of(inode);
	if (is_another_lower(lower, ctx->args[2], ctx->args[3]))
		return -3;
	if (!lower)
		bpf_map_update_elem(&lowerless_marks, &zero, &one, BPF_ANY);
	if (!set_mark(&clean_marks, &marked, COMPARED_NOW))
		return -3;
	bpf_map_delete_elem(&written_marks, &marked.address);
	/* A writer counts itself before it marks the file: one whose mark was just deleted is seen here while it has the file open. */
	upper = BPF_CORE_READ(upper_of(inode), d_inode);
	if (is_open_for_writing(inode, upper)) {
		set_mark(&written_marks, &marked, WRITTEN);
		bpf_map_delete_elem(&clean_marks, &marked.address);
		return -2;
	}
	return 0;
}

/* Cases for the comparison with the pure verdict; the agent never fills them. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct verdict_case);
} verdict_cases SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct verdict);
} verdicts SEC(".maps");

SEC("raw_tp")
int mooring_verdict(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 index = ctx->args[0];
	struct verdict_case *it = bpf_map_lookup_elem(&verdict_cases, &index);
	struct verdict *verdict = bpf_map_lookup_elem(&verdicts, &index);
	struct tables tables = {};
	struct scratch *scratch;
	bool by_caller;
	__u64 drift;
	__u32 slot;

	if (!it || !verdict || !decides(&tables))
		return -1;
	index = it->use * CLASSES + it->file_class;
	/* As in verdict_of(). */
	barrier_var(index);
	if (it->use >= USES || it->file_class >= CLASSES || it->caller_class >= CLASSES || index >= USES * CLASSES)
		return -1;
	drift = it->member & tables.rules->detects[0][index];
	scratch = claim_scratch(&slot);
	if (!scratch)
		return -1;
	by_caller = it->use == USE_EXECUTE && it->has_caller && process_lists_matter(tables.rules, it->member, drift);
	scratch->request.member = it->member;
	scratch->caller.excepted_process = 0;
	scratch->caller.prohibited_process = 0;
	if (by_caller) {
		scratch->request.file_class = it->caller_class;
		bpf_probe_read_kernel(&scratch->names[NAME_INDEX_PATH], sizeof(struct name), &it->caller_names[0]);
		bpf_probe_read_kernel(&scratch->names[NAME_INDEX_LOWER], sizeof(struct name), &it->caller_names[1]);
		judge_caller(slot, tables.half);
	}
	bpf_probe_read_kernel(scratch->names, sizeof(scratch->names), it->names);
	scratch->request.use = it->use;
	scratch->request.file_class = it->file_class;
	if (by_caller || lists_matter(tables.rules, it->member, drift))
		judge_by_names(slot, tables.half);
	else
		verdict_of(tables.rules, it->member, it->use, it->file_class, 0, 0, 0, &scratch->verdict);
	*verdict = scratch->verdict;
	release_scratch(slot);
	return 0;
}
