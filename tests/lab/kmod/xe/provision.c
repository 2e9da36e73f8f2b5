// SPDX-License-Identifier: GPL-2.0
/*
 * Who gets how much VRAM. Only the attributes tell: a VF's BAR keeps its size.
 *
 * The PF needs none for itself here, and a VF's share need not lie in one piece.
 */
#include <linux/align.h>
#include <linux/math64.h>
#include "xe.h"

/* The page of the table that maps a VF's VRAM. */
#define ALIGNMENT	SZ_2M

static u64 vram_left(const struct xe_gpu *xe, unsigned int vfid)
{
	u64 left = xe->gpu->model->vram_size;

	for (unsigned int i = 1; i <= xe->total_vfs; i++)
		if (i != vfid)
			left -= xe->shares[i].vram;
	return left;
}

/* Both of these are called with xe->lock held. */
int xe_set_vram(struct xe_gpu *xe, unsigned int vfid, u64 size)
{
	u64 left = vram_left(xe, vfid);

	/* Before it is rounded up, or the largest number would become none. */
	if (size > left || ALIGN(size, ALIGNMENT) > left)
		return -ENOSPC;
	xe->shares[vfid].vram = ALIGN(size, ALIGNMENT);
	return 0;
}

/* All that there can be, enabled or not; up to the first that does not fit. */
int xe_set_all_vram(struct xe_gpu *xe, u64 size)
{
	int ret = 0;

	for (unsigned int i = 1; i <= xe->total_vfs && !ret; i++)
		ret = xe_set_vram(xe, i, size);
	return ret;
}

/* Fair shares, unless one of these VFs was given something before. */
int xe_provision(struct xe_gpu *xe, unsigned int nr)
{
	u64 fair;

	guard(mutex)(&xe->lock);
	for (unsigned int i = 1; i <= nr; i++)
		if (xe->shares[i].vram)
			return 0;
	/* What VFs that are not enabled were given is not there to share. */
	fair = ALIGN_DOWN(div_u64(vram_left(xe, XE_PF), nr), ALIGNMENT);
	if (!fair)
		return -ENOSPC;
	for (unsigned int i = 1; i <= nr; i++)
		xe->shares[i].vram = fair;
	return 0;
}

/* Whatever was set, by whomever. */
void xe_unprovision(struct xe_gpu *xe, unsigned int first, unsigned int last)
{
	guard(mutex)(&xe->lock);
	for (unsigned int i = first; i <= last; i++) {
		xe->shares[i].vram = 0;
		xe->shares[i].exec_quantum_ms = 0;
		xe->shares[i].preempt_timeout_us = 0;
	}
}
