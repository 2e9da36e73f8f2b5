// SPDX-License-Identifier: GPL-2.0
/*
 * Life of a function: enabled, reset, unplugged.
 *
 *   ABSENT --VF Enable--> READY --FLR--> RESETTING --reset_work--> READY
 *                           |  \--FLR that fails--> DEAD --knob--> READY
 *                           \--unplug--> GONE --replug--> READY
 *
 * A VF becomes ABSENT from any state when VF Enable is cleared. Only a READY
 * function answers config cycles. States change under gpu->lock, in whatever
 * context the config write came from; what has to sleep runs on simgpu_wq.
 */
#include <linux/device.h>
#include <linux/jiffies.h>
#include <linux/module.h>
#include <linux/sysfs.h>
#include "simgpu.h"

/* How long after a reset the "late" one clears VRAM. */
#define LATE_MS	2000

struct workqueue_struct *simgpu_wq;

/* With a reference, if it is there. */
struct pci_dev *simgpu_get_pci_dev(struct simgpu_func *fn)
{
	return pci_get_domain_bus_and_slot(SIMGPU_DOMAIN, fn->gpu->busnr,
					   fn->devfn);
}
EXPORT_SYMBOL_GPL(simgpu_get_pci_dev);

/* The way back; NULL for a device that is none of ours. */
struct simgpu_func *simgpu_func_of(struct pci_dev *pdev)
{
	struct simgpu *gpu = simgpu_of(pdev);

	for (unsigned int i = 0; gpu && i < gpu->nr_functions; i++)
		if (gpu->functions[i].devfn == pdev->devfn)
			return &gpu->functions[i];
	return NULL;
}
EXPORT_SYMBOL_GPL(simgpu_func_of);

/* What a hotplug port does: stops the kernel from waiting for the function. */
static void set_channel(struct simgpu_func *fn, pci_channel_state_t state)
{
	struct pci_dev *pdev = simgpu_get_pci_dev(fn);

	if (!pdev)
		return;
	WRITE_ONCE(pdev->error_state, state);
	pci_dev_put(pdev);
}

/* VF Enable was written. Called with gpu->lock held. */
void simgpu_enable_vfs(struct simgpu *gpu, unsigned int nr)
{
	for (unsigned int i = 1; i < gpu->nr_functions; i++) {
		struct simgpu_func *vf = &gpu->functions[i];

		simgpu_config_power_on(vf);
		vf->state = i <= nr ? SIMGPU_READY : SIMGPU_ABSENT;
	}
}

/* Initiate Function Level Reset was written. Called with gpu->lock held. */
void simgpu_func_flr(struct simgpu_func *fn)
{
	struct simgpu *gpu = fn->gpu;
	enum simgpu_flr how = READ_ONCE(gpu->knobs.flr);

	if (!simgpu_guard_admits(fn)) {
		atomic_inc(&gpu->counters.flr_refused);
		return;
	}
	atomic_inc(&gpu->counters.flr);
	simgpu_config_power_on(fn);
	if (fn->index == 0)
		simgpu_enable_vfs(gpu, 0);

	switch (how) {
	case SIMGPU_FLR_FAIL:
	case SIMGPU_FLR_FAIL_FAST:
		atomic_inc(&gpu->counters.flr_failed);
		fn->state = SIMGPU_DEAD;
		if (how == SIMGPU_FLR_FAIL_FAST)
			queue_delayed_work(simgpu_wq, &fn->reset_work, 0);
		break;
	case SIMGPU_FLR_CLEAR:
	case SIMGPU_FLR_LEAVE:
	case SIMGPU_FLR_TABLE:
	case SIMGPU_FLR_LATE:
		fn->state = SIMGPU_RESETTING;
		fn->flr = how;
		queue_delayed_work(simgpu_wq, &fn->reset_work,
				   msecs_to_jiffies(READ_ONCE(gpu->knobs.flr_ms)));
		break;
	}
}

static enum simgpu_state state_of(struct simgpu_func *fn)
{
	enum simgpu_state state;

	raw_spin_lock_irq(&fn->gpu->lock);
	state = fn->state;
	raw_spin_unlock_irq(&fn->gpu->lock);
	return state;
}

/* Moves the function on, unless something else happened to it meanwhile. */
static bool change_state(struct simgpu_func *fn, enum simgpu_state from,
			 enum simgpu_state to)
{
	bool changed;

	raw_spin_lock_irq(&fn->gpu->lock);
	changed = fn->state == from;
	if (changed)
		fn->state = to;
	raw_spin_unlock_irq(&fn->gpu->lock);
	return changed;
}

static void reset_work(struct work_struct *work)
{
	struct simgpu_func *fn = container_of(to_delayed_work(work),
					      struct simgpu_func, reset_work);

	switch (state_of(fn)) {
	case SIMGPU_DEAD:
		set_channel(fn, pci_channel_io_perm_failure);
		break;
	case SIMGPU_RESETTING:
		cancel_delayed_work_sync(&fn->late_work);
		/* Clear first: a function that answers has been cleared. */
		if (fn->flr == SIMGPU_FLR_LATE)
			mod_delayed_work(simgpu_wq, &fn->late_work,
					 msecs_to_jiffies(LATE_MS));
		else
			simgpu_vram_reset(fn->gpu, fn->flr,
					  fn->vram_offset,
					  fn->vram_size);
		simgpu_regs_reset(fn);
		change_state(fn, SIMGPU_RESETTING, SIMGPU_READY);
		break;
	default:
		break;
	}
}

static void late_work(struct work_struct *work)
{
	struct simgpu_func *fn = container_of(to_delayed_work(work),
					      struct simgpu_func, late_work);

	simgpu_vram_reset(fn->gpu, SIMGPU_FLR_CLEAR, fn->vram_offset,
			  fn->vram_size);
}

/* The functions whose FLR failed answer again. */
void simgpu_revive(struct simgpu *gpu)
{
	for (unsigned int i = 0; i < gpu->nr_functions; i++) {
		struct simgpu_func *fn = &gpu->functions[i];

		if (state_of(fn) != SIMGPU_DEAD)
			continue;
		/* Or it would mark the revived function as lost. */
		cancel_delayed_work_sync(&fn->reset_work);
		if (change_state(fn, SIMGPU_DEAD, SIMGPU_READY))
			set_channel(fn, pci_channel_io_normal);
	}
}

/* Both of these are called with pci_rescan_remove_lock held. */
static void remove_pf(struct simgpu_func *fn)
{
	struct pci_dev *pdev = simgpu_get_pci_dev(fn);

	if (!pdev)
		return;
	pci_stop_and_remove_bus_device(pdev);
	pci_dev_put(pdev);
}

/*
 * The PCI core removes a VF only together with its siblings. It would leave
 * the PF's link to this one behind, and fail to enable VFs the next time.
 * This is pci_iov_remove_virtfn(), which is not exported.
 */
static void remove_vf(struct simgpu_func *fn)
{
	struct pci_dev *pdev, *pf;
	char link[16];

	guard(mutex)(&fn->gpu->vf_lock);
	pdev = simgpu_get_pci_dev(fn);
	if (!pdev)
		return;
	pf = pci_physfn(pdev);
	snprintf(link, sizeof(link), "virtfn%u", fn->index - 1);
	sysfs_remove_link(&pf->dev.kobj, link);
	pci_stop_and_remove_bus_device(pdev);
	pci_dev_put(pdev);
	pci_dev_put(pf);
}

/*
 * A PF must not go before its VFs (sriov_release() in drivers/pci/iov.c), and
 * not every driver takes them away. Waits for their VFIO users.
 */
void simgpu_release_driver(struct pci_dev *pdev)
{
	device_release_driver(&pdev->dev);
	if (pci_num_vf(pdev))
		simgpu_disable_sriov(pdev);
}

static void unplug_work(struct work_struct *work)
{
	struct simgpu_func *fn = container_of(work, struct simgpu_func,
					      unplug_work);
	struct pci_dev *pdev = simgpu_get_pci_dev(fn);

	if (!pdev)
		return;
	WRITE_ONCE(pdev->error_state, pci_channel_io_perm_failure);

	/*
	 * The driver goes first, without pci_rescan_remove_lock: vfio-pci waits
	 * here until its user lets go of the device, and a write to
	 * sriov_numvfs takes that lock inside the PF's device lock.
	 */
	simgpu_release_driver(pdev);
	pci_dev_put(pdev);

	pci_lock_rescan_remove();
	if (fn->index == 0)
		remove_pf(fn);
	else
		remove_vf(fn);
	pci_unlock_rescan_remove();
}

/* Surprise removal. With the PF, all of its VFs are gone too. */
int simgpu_unplug(struct simgpu *gpu, unsigned int index)
{
	struct simgpu_func *fn = &gpu->functions[index];
	int ret = 0;

	raw_spin_lock_irq(&gpu->lock);
	if (fn->state == SIMGPU_ABSENT || fn->state == SIMGPU_GONE) {
		ret = -ENODEV;
	} else {
		fn->state = SIMGPU_GONE;
		if (index == 0)
			simgpu_enable_vfs(gpu, 0);
	}
	raw_spin_unlock_irq(&gpu->lock);
	if (ret)
		return ret;

	if (index == 0)
		for (unsigned int i = 1; i < gpu->nr_functions; i++)
			set_channel(&gpu->functions[i],
				    pci_channel_io_perm_failure);
	queue_work(simgpu_wq, &fn->unplug_work);
	return 0;
}

/*
 * Puts back what was unplugged. A PF is found by the scan; a VF appears when
 * the VFs are next enabled, as there is no other way to add one.
 */
int simgpu_replug(struct simgpu *gpu)
{
	for (unsigned int i = 0; i < gpu->nr_functions; i++)
		if (work_busy(&gpu->functions[i].unplug_work))
			return -EBUSY;

	for (unsigned int i = 0; i < gpu->nr_functions; i++) {
		struct simgpu_func *fn = &gpu->functions[i];

		raw_spin_lock_irq(&gpu->lock);
		if (fn->state == SIMGPU_GONE) {
			simgpu_config_power_on(fn);
			fn->state = SIMGPU_READY;
		}
		raw_spin_unlock_irq(&gpu->lock);
	}

	pci_lock_rescan_remove();
	simgpu_bus_scan(gpu);
	pci_unlock_rescan_remove();
	return 0;
}

void simgpu_func_init(struct simgpu *gpu, unsigned int index)
{
	const struct simgpu_model *model = gpu->model;
	struct simgpu_func *fn = &gpu->functions[index];

	fn->gpu = gpu;
	fn->index = index;
	INIT_DELAYED_WORK(&fn->reset_work, reset_work);
	INIT_DELAYED_WORK(&fn->late_work, late_work);
	INIT_WORK(&fn->unplug_work, unplug_work);
	if (index == 0) {
		fn->devfn = PCI_DEVFN(0, 0);
		fn->vram_size = model->vram_size;
		fn->state = SIMGPU_READY;
	} else {
		fn->devfn = model->vf_offset + (index - 1) * model->vf_stride;
		fn->vram_size = simgpu_model_vf_size(model);
		fn->vram_offset = model->vram_size + (index - 1) * fn->vram_size;
		fn->state = SIMGPU_ABSENT;
	}
	simgpu_config_power_on(fn);
}
