// SPDX-License-Identifier: GPL-2.0
/*
 * What xe had before sriov_admin (Linux 6.19), in /sys/kernel/debug/dri/<PF>:
 * by tile, sriov/{pf,vfN}/tile0/{vram_quota,gt0/{exec_quantum_ms,
 * preempt_timeout_us}} (drivers/gpu/drm/xe/xe_tile_sriov_pf_debugfs.c), and
 * before that gt0/{pf,vfN}/{lmem_quota,exec_quantum_ms,preempt_timeout_us}
 * (xe_gt_sriov_pf_debugfs.c). The PF has no VRAM of its own to set. The other
 * quotas and the PF's spares are left out.
 */
#include <linux/debugfs.h>
#include "xe.h"

static struct dentry *root;

static unsigned int vfid_of(const struct xe_share *share)
{
	return share - share->xe->shares;
}

static int vram_quota_get(void *data, u64 *value)
{
	struct xe_share *share = data;

	guard(mutex)(&share->xe->lock);
	*value = share->vram;
	return 0;
}

static int vram_quota_set(void *data, u64 value)
{
	struct xe_share *share = data;

	guard(mutex)(&share->xe->lock);
	return xe_set_vram(share->xe, vfid_of(share), value);
}
DEFINE_DEBUGFS_ATTRIBUTE(vram_quota_fops, vram_quota_get, vram_quota_set,
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

static void times(struct dentry *dir, struct xe_share *share)
{
	debugfs_create_file("exec_quantum_ms", 0644, dir, share,
			    &exec_quantum_ms_fops);
	debugfs_create_file("preempt_timeout_us", 0644, dir, share,
			    &preempt_timeout_us_fops);
}

static void by_tile(struct dentry *function, struct xe_share *share)
{
	struct dentry *tile = debugfs_create_dir("tile0", function);

	times(debugfs_create_dir("gt0", tile), share);
	if (vfid_of(share) != XE_PF)
		debugfs_create_file("vram_quota", 0644, tile, share,
				    &vram_quota_fops);
}

static void by_gt(struct dentry *function, struct xe_share *share)
{
	times(function, share);
	if (vfid_of(share) != XE_PF)
		debugfs_create_file("lmem_quota", 0644, function, share,
				    &vram_quota_fops);
}

void xe_debugfs_add(struct xe_gpu *xe, bool tiles)
{
	struct dentry *functions;
	char name[8];

	xe->debugfs = debugfs_create_dir(pci_name(xe->pdev), root);
	functions = debugfs_create_dir(tiles ? "sriov" : "gt0", xe->debugfs);
	for (unsigned int i = 0; i <= xe->total_vfs; i++) {
		struct dentry *function;

		snprintf(name, sizeof(name), i ? "vf%u" : "pf", i);
		function = debugfs_create_dir(name, functions);
		if (tiles)
			by_tile(function, &xe->shares[i]);
		else
			by_gt(function, &xe->shares[i]);
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
