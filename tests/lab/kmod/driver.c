// SPDX-License-Identifier: GPL-2.0
/*
 * What PF drivers have in common, and the two that are no vendor's.
 *
 * No id tables: the ids are those of real cards, and no module of ours must be
 * loaded for one. A model says which driver takes it; simgpu_pf_probe() refuses
 * everything else, real cards among it.
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

/* Refuses what is not for this driver; otherwise the PF is enabled. */
int simgpu_pf_probe(struct pci_dev *pdev, enum simgpu_driver which)
{
	struct simgpu *gpu = simgpu_of(pdev);

	/* Flex 170's VFs have the id of their PF. */
	if (!gpu || pdev->is_virtfn || gpu->model->driver != which)
		return -ENODEV;
	return pci_enable_device(pdev);
}
EXPORT_SYMBOL_GPL(simgpu_pf_probe);

/* Waits for the VFIO users of the VFs. */
void simgpu_disable_sriov(struct pci_dev *pdev)
{
	struct simgpu *gpu = simgpu_of(pdev);

	guard(mutex)(&gpu->vf_lock);
	pci_disable_sriov(pdev);
}
EXPORT_SYMBOL_GPL(simgpu_disable_sriov);

void simgpu_pf_remove(struct pci_dev *pdev)
{
	simgpu_disable_sriov(pdev);
	pci_disable_device(pdev);
}
EXPORT_SYMBOL_GPL(simgpu_pf_remove);

/* As the knobs say: how many VFs there are now, or an error. */
int simgpu_enable_sriov(struct pci_dev *pdev, int nr)
{
	struct simgpu *gpu = simgpu_of(pdev);
	int ret;

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
EXPORT_SYMBOL_GPL(simgpu_enable_sriov);

const char *simgpu_driver_module(enum simgpu_driver which)
{
	switch (which) {
	case SIMGPU_DRIVER_SRIOV:
	case SIMGPU_DRIVER_DISPLAY:
		break;
	case SIMGPU_DRIVER_MDEV:
		return "simgpu_mdev";
	case SIMGPU_DRIVER_GIM:
		return "gim";
	case SIMGPU_DRIVER_XE:
		return "simgpu_xe";
	case SIMGPU_DRIVER_NVIDIA:
		return "nvidia";
	}
	return KBUILD_MODNAME;
}

/*
 * Adding an id probes what has it. An id that two models have is added twice,
 * which nobody notices.
 */
int __simgpu_register_driver(struct pci_driver *driver,
			     enum simgpu_driver which, struct module *owner,
			     const char *mod_name)
{
	const struct simgpu_model *model = NULL;
	int ret;

	ret = __pci_register_driver(driver, owner, mod_name);
	if (ret)
		return ret;
	while ((model = simgpu_model_next(model))) {
		if (model->driver != which)
			continue;
		ret = pci_add_dynid(driver, model->vendor, model->device,
				    PCI_ANY_ID, PCI_ANY_ID, 0, 0, 0);
		if (ret) {
			pci_unregister_driver(driver);
			return ret;
		}
	}
	return 0;
}
EXPORT_SYMBOL_GPL(__simgpu_register_driver);

static int sriov_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	return simgpu_pf_probe(pdev, SIMGPU_DRIVER_SRIOV);
}

static int sriov_configure(struct pci_dev *pdev, int nr)
{
	if (nr)
		return simgpu_enable_sriov(pdev, nr);
	simgpu_disable_sriov(pdev);
	return 0;
}

static struct pci_driver sriov_driver = {
	.name = "simgpu",
	.probe = sriov_probe,
	.remove = simgpu_pf_remove,
	.sriov_configure = sriov_configure,
};

/* Display drivers that know no SR-IOV, whatever the card's capability says. */
static int display_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	return simgpu_pf_probe(pdev, SIMGPU_DRIVER_DISPLAY);
}

static struct pci_driver display_driver = {
	.name = "simgpu_display",
	.probe = display_probe,
	.remove = simgpu_pf_remove,
};

int simgpu_drivers_register(void)
{
	int ret = simgpu_register_driver(&sriov_driver, SIMGPU_DRIVER_SRIOV);

	if (ret)
		return ret;
	ret = simgpu_register_driver(&display_driver, SIMGPU_DRIVER_DISPLAY);
	if (ret)
		pci_unregister_driver(&sriov_driver);
	return ret;
}

void simgpu_drivers_unregister(void)
{
	pci_unregister_driver(&display_driver);
	pci_unregister_driver(&sriov_driver);
}
