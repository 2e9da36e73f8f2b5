// SPDX-License-Identifier: GPL-2.0
/* xe: the PF driver that gives each VF its share when VFs are enabled. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>
#include "xe.h"

static char *admin = "sysfs";
module_param(admin, charp, 0444);
MODULE_PARM_DESC(admin, "where shares are read and set: sysfs as since Linux 6.19, before it debugfs-tiles, and before that debugfs-gts (default: sysfs)");

static const char * const interfaces[] = {
	"sysfs", "debugfs-tiles", "debugfs-gts",
};

static bool admin_is(const char *interface)
{
	return !strcmp(admin, interface);
}

/* When VFs go, the PF clears what was theirs. */
static void clear_vfs(struct xe_gpu *xe, unsigned int nr)
{
	for (unsigned int i = 1; i <= nr; i++) {
		struct simgpu_func *vf = &xe->gpu->functions[i];

		cancel_delayed_work_sync(&vf->late_work);
		simgpu_vram_fill(xe->gpu, vf->vram_offset, vf->vram_size, 0);
	}
}

static int enable_vfs(struct xe_gpu *xe, unsigned int nr)
{
	int ret = xe_provision(xe, nr);

	if (ret)
		return ret;
	ret = simgpu_enable_sriov(xe->pdev, nr);
	/* Those that did not come have nothing. */
	xe_unprovision(xe, max(ret, 0) + 1, nr);
	if (ret > 0)
		xe_sysfs_link(xe, ret);
	return ret;
}

/* Waits for the VFIO users of the VFs. */
static void disable_vfs(struct xe_gpu *xe)
{
	unsigned int nr = pci_num_vf(xe->pdev);

	xe_sysfs_unlink(xe, nr);
	simgpu_disable_sriov(xe->pdev);
	clear_vfs(xe, nr);
	xe_unprovision(xe, 1, nr);
}

static int xe_sriov_configure(struct pci_dev *pdev, int nr)
{
	struct xe_gpu *xe = pci_get_drvdata(pdev);

	if (nr > xe->total_vfs)
		return -ERANGE;
	if (nr && pci_num_vf(pdev))
		return -EBUSY;
	if (nr)
		return enable_vfs(xe, nr);
	disable_vfs(xe);
	return 0;
}

static int xe_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct simgpu *gpu;
	struct xe_gpu *xe;
	int ret;

	ret = simgpu_pf_probe(pdev, SIMGPU_DRIVER_XE);
	if (ret)
		return ret;

	gpu = simgpu_of(pdev);
	xe = kzalloc(struct_size(xe, shares, gpu->nr_functions), GFP_KERNEL);
	if (!xe) {
		ret = -ENOMEM;
		goto err_remove;
	}
	xe->gpu = gpu;
	xe->pdev = pdev;
	xe->total_vfs = gpu->model->total_vfs;
	for (unsigned int i = 0; i <= xe->total_vfs; i++)
		xe->shares[i].xe = xe;
	mutex_init(&xe->lock);
	pci_set_drvdata(pdev, xe);
	if (admin_is("sysfs"))
		ret = xe_sysfs_add(xe);
	else
		xe_debugfs_add(xe, admin_is("debugfs-tiles"));
	if (ret)
		goto err_free;
	return 0;

err_free:
	kfree(xe);
err_remove:
	simgpu_pf_remove(pdev);
	return ret;
}

static void xe_remove(struct pci_dev *pdev)
{
	struct xe_gpu *xe = pci_get_drvdata(pdev);

	disable_vfs(xe);
	xe_sysfs_remove(xe);
	xe_debugfs_remove(xe);
	simgpu_pf_remove(pdev);
	kfree(xe);
}

static struct pci_driver xe_driver = {
	.name = "xe",
	.probe = xe_probe,
	.remove = xe_remove,
	.sriov_configure = xe_sriov_configure,
};

static int __init xe_init(void)
{
	int ret;

	ret = match_string(interfaces, ARRAY_SIZE(interfaces), admin);
	if (ret < 0) {
		pr_err("admin=%s: sysfs, debugfs-tiles or debugfs-gts\n", admin);
		return ret;
	}
	if (!admin_is("sysfs"))
		xe_debugfs_init();
	ret = simgpu_register_driver(&xe_driver, SIMGPU_DRIVER_XE);
	if (ret)
		xe_debugfs_exit();
	return ret;
}

static void __exit xe_exit(void)
{
	pci_unregister_driver(&xe_driver);
	xe_debugfs_exit();
}

module_init(xe_init);
module_exit(xe_exit);
MODULE_DESCRIPTION("Simulated Intel xe");
MODULE_LICENSE("GPL");
