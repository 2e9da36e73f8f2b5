// SPDX-License-Identifier: GPL-2.0
/*
 * gim: the PF driver that makes its VFs when it is loaded, and only then.
 *
 * No sriov_configure: writing sriov_numvfs answers ENOENT. Another number of
 * VFs means rmmod and modprobe, for all GPUs of the host at once.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/slab.h>
#include "gim.h"

#define MOST_GPUS	32
#define MOST_VFS	31

static unsigned int vf_num[MOST_GPUS] = { 1 };
static unsigned int nr_vf_num = 1;
module_param_array(vf_num, uint, &nr_vf_num, 0444);
MODULE_PARM_DESC(vf_num, "how many VFs each GPU gets, in the order of their addresses, 1 to 31 (default: 1)");

DEFINE_MUTEX(gim_hive_lock);
LIST_HEAD(gim_hive);

static int gim_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct gim_gpu *gim;
	int ret;

	ret = simgpu_pf_probe(pdev, SIMGPU_DRIVER_GIM);
	if (ret)
		return ret;

	gim = kzalloc(sizeof(*gim), GFP_KERNEL);
	if (!gim) {
		ret = -ENOMEM;
		goto err_remove;
	}
	gim->gpu = simgpu_of(pdev);
	gim->nr_vfs = gim->gpu->nth < nr_vf_num ? vf_num[gim->gpu->nth] : 1;
	if (!gim_partition_init(gim)) {
		dev_err(&pdev->dev, "%u VFs are not supported: 1, 2, 4 or 8\n",
			gim->nr_vfs);
		ret = -EINVAL;
		goto err_free;
	}
	ret = simgpu_enable_sriov(pdev, gim->nr_vfs);
	if (ret < 0)
		goto err_free;
	/* Fewer are no layout of the card's. */
	if (ret != gim->nr_vfs) {
		dev_err(&pdev->dev, "%d of %u VFs came\n", ret, gim->nr_vfs);
		simgpu_disable_sriov(pdev);
		ret = -EIO;
		goto err_free;
	}
	gim_guard_init(gim);
	pci_set_drvdata(pdev, gim);

	guard(mutex)(&gim_hive_lock);
	list_add_tail(&gim->node, &gim_hive);
	return 0;

err_free:
	kfree(gim);
err_remove:
	simgpu_pf_remove(pdev);
	return ret;
}

/* Waits for the VFIO users of the VFs. */
static void gim_remove(struct pci_dev *pdev)
{
	struct gim_gpu *gim = pci_get_drvdata(pdev);

	scoped_guard(mutex, &gim_hive_lock)
		list_del(&gim->node);
	simgpu_pf_remove(pdev);
	gim_guard_exit(gim);
	kfree(gim);
}

static const struct attribute_group *gim_groups[] = {
	&gim_partition_group,
	&gim_guard_group,
	NULL
};

static struct pci_driver gim_driver = {
	.name = "gim",
	.probe = gim_probe,
	.remove = gim_remove,
	.dev_groups = gim_groups,
};

static int __init gim_init(void)
{
	for (unsigned int i = 0; i < nr_vf_num; i++) {
		if (vf_num[i] >= 1 && vf_num[i] <= MOST_VFS)
			continue;
		pr_err("vf_num=%u: 1 to %u\n", vf_num[i], MOST_VFS);
		return -EINVAL;
	}
	return simgpu_register_driver(&gim_driver, SIMGPU_DRIVER_GIM);
}

static void __exit gim_exit(void)
{
	pci_unregister_driver(&gim_driver);
}

module_init(gim_init);
module_exit(gim_exit);
MODULE_DESCRIPTION("Simulated AMD GIM");
MODULE_LICENSE("GPL");
MODULE_VERSION("8.0.0.K");
