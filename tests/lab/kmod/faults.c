// SPDX-License-Identifier: GPL-2.0
/* The knobs' part in creating a slice and in resetting a mediated one. */
#include <linux/atomic.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/module.h>
#include "simgpu.h"

/* To be called before VFs or a mediated device are made. */
int simgpu_create_begin(struct simgpu *gpu)
{
	unsigned int ms = READ_ONCE(gpu->knobs.create_ms);
	u32 err;

	if (ms)
		msleep(ms);
	/* Once: whoever comes next succeeds. */
	err = xchg(&gpu->knobs.create_errno, 0);
	return -(int)min_t(u32, err, MAX_ERRNO);
}
EXPORT_SYMBOL_GPL(simgpu_create_begin);

void simgpu_create_end(struct simgpu *gpu, int ret)
{
	atomic_inc(&gpu->counters.create);
	if (ret)
		atomic_inc(&gpu->counters.create_failed);
}
EXPORT_SYMBOL_GPL(simgpu_create_end);

/* The FLR of a mediated device, whose VRAM is [@offset, @offset + @size). */
int simgpu_window_reset(struct simgpu *gpu, u64 offset, u64 size)
{
	enum simgpu_flr how = READ_ONCE(gpu->knobs.flr);
	unsigned int ms = READ_ONCE(gpu->knobs.flr_ms);

	atomic_inc(&gpu->counters.flr);
	if (how == SIMGPU_FLR_FAIL || how == SIMGPU_FLR_FAIL_FAST) {
		atomic_inc(&gpu->counters.flr_failed);
		return -EIO;
	}
	if (ms)
		msleep(ms);
	simgpu_vram_reset(gpu, how, offset, size);
	return 0;
}
EXPORT_SYMBOL_GPL(simgpu_window_reset);
