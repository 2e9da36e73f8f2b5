// SPDX-License-Identifier: GPL-2.0
/*
 * Counts the FLRs of a function, and refuses those that come too often: for a
 * PF driver that guards its VFs. A refused FLR resets nothing, and the function
 * answers at once.
 */
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/string.h>
#include "simgpu.h"

#define INTERVAL_NS	(60 * NSEC_PER_SEC)

/* Called with gpu->lock held. */
static void expire(struct simgpu_guard *guard)
{
	u64 now = ktime_get_ns();

	while (guard->recent && now - guard->times[0] >= INTERVAL_NS) {
		guard->recent--;
		memmove(guard->times, guard->times + 1,
			guard->recent * sizeof(guard->times[0]));
		guard->level = SIMGPU_GUARD_NORMAL;
	}
}

/* Whether this FLR is to happen. Called with gpu->lock held. */
bool simgpu_guard_admits(struct simgpu_func *fn)
{
	struct simgpu_guard *guard = &fn->guard;

	if (!guard->on)
		return true;
	expire(guard);
	if (guard->recent >= guard->threshold) {
		guard->level = SIMGPU_GUARD_OVERFLOW;
		return false;
	}
	guard->times[guard->recent++] = ktime_get_ns();
	guard->total++;
	if (guard->recent == guard->threshold)
		guard->level = SIMGPU_GUARD_FULL;
	return true;
}

/* Turning it on or off forgets what happened so far. */
void simgpu_guard_set(struct simgpu_func *fn, bool on, unsigned int threshold)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&fn->gpu->lock, flags);
	if (fn->guard.on != on)
		memset(&fn->guard, 0, sizeof(fn->guard));
	fn->guard.on = on;
	fn->guard.threshold = min(threshold, SIMGPU_GUARD_MOST);
	raw_spin_unlock_irqrestore(&fn->gpu->lock, flags);
}
EXPORT_SYMBOL_GPL(simgpu_guard_set);

struct simgpu_guard_state simgpu_guard_read(struct simgpu_func *fn)
{
	struct simgpu_guard_state state;
	unsigned long flags;

	raw_spin_lock_irqsave(&fn->gpu->lock, flags);
	expire(&fn->guard);
	state.level = fn->guard.level;
	state.recent = fn->guard.recent;
	state.total = fn->guard.total;
	raw_spin_unlock_irqrestore(&fn->gpu->lock, flags);
	return state;
}
EXPORT_SYMBOL_GPL(simgpu_guard_read);
