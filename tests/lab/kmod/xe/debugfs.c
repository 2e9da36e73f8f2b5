// SPDX-License-Identifier: GPL-2.0
/*
 * What xe had before sriov_admin (Linux 6.19): /sys/kernel/debug/dri/<PF>/gt0/
 * {pf,vfN}/{exec_quantum_ms,preempt_timeout_us}, and vfN/lmem_quota in bytes
 * (drivers/gpu/drm/xe/xe_gt_sriov_pf_debugfs.c). The other quotas and the
 * PF's spares are left out.
 */
#include <linux/debugfs.h>
#include "xe.h"

static struct dentry *root;

static unsigned int vfid_of(const struct xe_share *share)
{
	return share - share->xe->shares;
}

static int lmem_quota_get(void *data, u64 *value)
{
	struct xe_share *share = data;

	guard(mutex)(&share->xe->lock);
	*value = share->vram;
	return 0;
}

static int lmem_quota_set(void *data, u64 value)
{
	struct xe_share *share = data;

	guard(mutex)(&share->xe->lock);
	return xe_set_vram(share->xe, vfid_of(share), value);
}
DEFINE_DEBUGFS_ATTRIBUTE(lmem_quota_fops, lmem_quota_get, lmem_quota_set,
			 "%llu\n");

#define XE_TIME_FOPS(name)						\
static int name##_get(void *data, u64 *value)				\
{									\
	struct xe_share *share = data;					\
									\
	guard(mutex)(&share->xe->lock);					\
	*value = share->name;						\
	return 0;							\
}									\
									\
static int name##_set(void *data, u64 value)				\
{									\
	struct xe_share *share = data;					\
									\
	if (value > U32_MAX)						\
		return -EOVERFLOW;					\
	guard(mutex)(&share->xe->lock);					\
	share->name = value;						\
	return 0;							\
}									\
DEFINE_DEBUGFS_ATTRIBUTE(name##_fops, name##_get, name##_set, "%llu\n")

XE_TIME_FOPS(exec_quantum_ms);
XE_TIME_FOPS(preempt_timeout_us);

void xe_debugfs_add(struct xe_gpu *xe)
{
	struct dentry *gt;
	char name[8];

	xe->debugfs = debugfs_create_dir(pci_name(xe->pdev), root);
	gt = debugfs_create_dir("gt0", xe->debugfs);
	for (unsigned int i = 0; i <= xe->total_vfs; i++) {
		struct xe_share *share = &xe->shares[i];
		struct dentry *dir;

		snprintf(name, sizeof(name), i ? "vf%u" : "pf", i);
		dir = debugfs_create_dir(name, gt);
		debugfs_create_file("exec_quantum_ms", 0644, dir, share,
				    &exec_quantum_ms_fops);
		debugfs_create_file("preempt_timeout_us", 0644, dir, share,
				    &preempt_timeout_us_fops);
		if (i != XE_PF)
			debugfs_create_file("lmem_quota", 0644, dir, share,
					    &lmem_quota_fops);
	}
}

/* Waits for who is inside a file. */
void xe_debugfs_remove(struct xe_gpu *xe)
{
	debugfs_remove(xe->debugfs);
}

/* A DRM driver that is loaded too would have the directory: not in the lab. */
void xe_debugfs_init(void)
{
	root = debugfs_create_dir("dri", NULL);
}

void xe_debugfs_exit(void)
{
	debugfs_remove(root);
}
