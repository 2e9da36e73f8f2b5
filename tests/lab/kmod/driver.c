// SPDX-License-Identifier: GPL-2.0
/*
 * PF drivers of the simulated GPUs.
 *
 * No MODULE_DEVICE_TABLE: the ids are those of real cards, and this module must
 * not be loaded for one. probe() refuses real cards for the same reason.
 */
#include <linux/module.h>
#include "simgpu.h"

struct simgpu *simgpu_of(struct pci_dev *pdev)
{
	if (pdev->bus->ops != &simgpu_pci_ops)
		return NULL;
	return container_of((struct pci_sysdata *)pdev->bus->sysdata,
			    struct simgpu, sysdata);
}
EXPORT_SYMBOL_GPL(simgpu_of);

static int simgpu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	/* Flex 170's VFs have the id of their PF, and are not for this driver. */
	if (!simgpu_of(pdev) || pdev->is_virtfn)
		return -ENODEV;
	return pci_enable_device(pdev);
}

/* Waits for the VFIO users of the VFs. */
static void disable_vfs(struct pci_dev *pdev)
{
	struct simgpu *gpu = simgpu_of(pdev);

	guard(mutex)(&gpu->vf_lock);
	pci_disable_sriov(pdev);
}

static void simgpu_remove(struct pci_dev *pdev)
{
	disable_vfs(pdev);
	pci_disable_device(pdev);
}

static int simgpu_sriov_configure(struct pci_dev *pdev, int nr)
{
	struct simgpu *gpu = simgpu_of(pdev);
	int ret;

	if (nr == 0) {
		disable_vfs(pdev);
		return 0;
	}

	ret = simgpu_create_begin(gpu);
	if (!ret) {
		nr -= min_t(u32, nr, READ_ONCE(gpu->knobs.vf_short));
		guard(mutex)(&gpu->vf_lock);
		ret = pci_enable_sriov(pdev, nr);
		if (!ret && gpu->model->clrvffb) {
			ret = simgpu_clrvffb_add(gpu, nr);
			if (ret)
				pci_disable_sriov(pdev);
		}
	}
	simgpu_create_end(gpu, ret);
	return ret ?: nr;
}

static const struct pci_device_id sriov_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_ATI, 0x74a1) },
	{ PCI_DEVICE(PCI_VENDOR_ID_ATI, SIMGPU_S7150_ID) },
	{ PCI_DEVICE(PCI_VENDOR_ID_INTEL, 0x56c0) },
	{ PCI_DEVICE(SIMGPU_VENDOR_ID, SIMGPU_SIM_ID) },
	{ }
};

static struct pci_driver sriov_driver = {
	.name = "simgpu",
	.id_table = sriov_ids,
	.probe = simgpu_probe,
	.remove = simgpu_remove,
	.sriov_configure = simgpu_sriov_configure,
};

/* Display drivers that know no SR-IOV, whatever the card's capability says. */
static const struct pci_device_id display_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_NVIDIA, 0x2f04) },
	{ PCI_DEVICE(PCI_VENDOR_ID_INTEL, 0xe20b) },
	{ }
};

static struct pci_driver display_driver = {
	.name = "simgpu_display",
	.id_table = display_ids,
	.probe = simgpu_probe,
	.remove = simgpu_remove,
};

int simgpu_driver_register(void)
{
	int ret = pci_register_driver(&sriov_driver);

	if (ret)
		return ret;
	ret = pci_register_driver(&display_driver);
	if (ret)
		pci_unregister_driver(&sriov_driver);
	return ret;
}

void simgpu_driver_unregister(void)
{
	pci_unregister_driver(&display_driver);
	pci_unregister_driver(&sriov_driver);
}
