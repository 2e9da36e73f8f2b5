// SPDX-License-Identifier: GPL-2.0
/*
 * nvidia: the PCI driver of PFs and VFs.
 *
 * It has no sriov_configure: VFs are made while another driver has the PF,
 * which is what sriov-manage arranges, and survive the PF's way back here.
 */
#include <linux/module.h>
#include "nvidia.h"

static int pf_probe(struct pci_dev *pdev)
{
	struct nv_card *card;
	int ret;

	ret = simgpu_pf_probe(pdev, SIMGPU_DRIVER_NVIDIA);
	if (ret)
		return ret;
	card = nv_card_make(simgpu_of(pdev));
	ret = PTR_ERR_OR_ZERO(card);
	if (!ret)
		ret = nv_proc_add(card);
	if (ret) {
		pci_disable_device(pdev);
		return ret;
	}
	nv_card_bind(card, pdev);
	if (simgpu_of(pdev)->model->total_vfs)
		return 0;

	card->parent = nv_mdev_add(card, NULL, pdev);
	if (!IS_ERR(card->parent))
		return 0;
	ret = PTR_ERR(card->parent);
	card->parent = NULL;
	nv_proc_remove(card);
	nv_card_unbind(card);
	pci_disable_device(pdev);
	return ret;
}

static bool unloading;

/* Leaves the VFs, but when the driver goes altogether. */
static void pf_remove(struct pci_dev *pdev)
{
	struct nv_card *card = nv_card_get(simgpu_of(pdev));

	if (READ_ONCE(card->knobs.clients))
		pci_err(pdev, "NVRM: Attempting to remove device with non-zero usage count!\n");
	if (card->parent)
		nv_mdev_remove(card->parent);
	card->parent = NULL;
	nv_proc_remove(card);
	nv_card_unbind(card);
	if (unloading)
		simgpu_disable_sriov(pdev);
	pci_disable_device(pdev);
}

static int nv_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	return pdev->is_virtfn ? nv_vf_probe(pdev) : pf_probe(pdev);
}

static void nv_remove(struct pci_dev *pdev)
{
	if (pdev->is_virtfn)
		nv_vf_remove(pdev);
	else
		pf_remove(pdev);
}

static struct pci_driver nv_driver = {
	.name = "nvidia",
	.probe = nv_probe,
	.remove = nv_remove,
	/* A VF's user decides where its DMA goes. */
	.driver_managed_dma = true,
};

static int __init nv_init(void)
{
	int ret;

	ret = nv_proc_init();
	if (ret)
		return ret;
	ret = nv_mdev_init();
	if (ret)
		goto err_proc;
	ret = simgpu_register_driver(&nv_driver, SIMGPU_DRIVER_NVIDIA);
	if (ret)
		goto err_mdev;
	return 0;

err_mdev:
	nv_mdev_exit();
	nv_cards_free();
err_proc:
	nv_proc_exit();
	return ret;
}

static void __exit nv_exit(void)
{
	unloading = true;
	pci_unregister_driver(&nv_driver);
	nv_mdev_exit();
	nv_cards_free();
	nv_proc_exit();
}

module_init(nv_init);
module_exit(nv_exit);
MODULE_DESCRIPTION("Simulated GPUs as NVIDIA's vGPU host driver shows them");
MODULE_LICENSE("GPL");
