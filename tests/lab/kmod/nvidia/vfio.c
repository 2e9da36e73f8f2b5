// SPDX-License-Identifier: GPL-2.0
/*
 * nvidia_vgpu_vfio: VFs as VFIO devices of their own driver, without vfio-pci.
 *
 * The kernel's vfio_pci_core does the work; the driver is asked when a user
 * opens a VF and told when it was closed.
 */
#include <linux/module.h>
#include <linux/vfio_pci_core.h>
#include "nvidia.h"

struct nv_vfio {
	struct vfio_pci_core_device core;
	const struct nv_vfio_ops *ops;
	struct nv_vf *vf;
};

static struct nv_vfio *to_nv_vfio(struct vfio_device *vdev)
{
	return container_of(vdev, struct nv_vfio, core.vdev);
}

static int nv_vfio_open(struct vfio_device *vdev)
{
	struct nv_vfio *vfio = to_nv_vfio(vdev);
	int ret;

	ret = vfio->ops->open(vfio->vf);
	if (ret)
		return ret;
	ret = vfio_pci_core_enable(&vfio->core);
	if (ret) {
		vfio->ops->close(vfio->vf);
		return ret;
	}
	vfio_pci_core_finish_enable(&vfio->core);
	return 0;
}

static void nv_vfio_close(struct vfio_device *vdev)
{
	struct nv_vfio *vfio = to_nv_vfio(vdev);

	vfio_pci_core_close_device(vdev);
	vfio->ops->close(vfio->vf);
}

static const struct vfio_device_ops nv_vfio_device_ops = {
	.name = "nvidia-vgpu-vfio-pci",
	.init = vfio_pci_core_init_dev,
	.release = vfio_pci_core_release_dev,
	.open_device = nv_vfio_open,
	.close_device = nv_vfio_close,
	.ioctl = vfio_pci_core_ioctl,
	.device_feature = vfio_pci_core_ioctl_feature,
	.read = vfio_pci_core_read,
	.write = vfio_pci_core_write,
	.mmap = vfio_pci_core_mmap,
	.request = vfio_pci_core_request,
	.match = vfio_pci_core_match,
	/* NULL where VFIO is built without iommufd */
	.bind_iommufd = vfio_iommufd_physical_bind,
	.unbind_iommufd = vfio_iommufd_physical_unbind,
	.attach_ioas = vfio_iommufd_physical_attach_ioas,
	.detach_ioas = vfio_iommufd_physical_detach_ioas,
};

/* Takes the VF's drvdata. */
int nv_vfio_add(struct pci_dev *pdev, const struct nv_vfio_ops *ops,
		struct nv_vf *vf)
{
	struct nv_vfio *vfio;
	int ret;

	vfio = vfio_alloc_device(nv_vfio, core.vdev, &pdev->dev,
				 &nv_vfio_device_ops);
	if (IS_ERR(vfio))
		return PTR_ERR(vfio);
	vfio->ops = ops;
	vfio->vf = vf;
	dev_set_drvdata(&pdev->dev, &vfio->core);
	ret = vfio_pci_core_register_device(&vfio->core);
	if (ret) {
		dev_set_drvdata(&pdev->dev, NULL);
		vfio_put_device(&vfio->core.vdev);
	}
	return ret;
}
EXPORT_SYMBOL_GPL(nv_vfio_add);

/* Waits until the user has closed the device. */
void nv_vfio_remove(struct pci_dev *pdev)
{
	struct vfio_pci_core_device *core = dev_get_drvdata(&pdev->dev);

	vfio_pci_core_unregister_device(core);
	vfio_put_device(&core->vdev);
}
EXPORT_SYMBOL_GPL(nv_vfio_remove);

MODULE_DESCRIPTION("VFIO devices of the VFs of a simulated NVIDIA GPU");
MODULE_LICENSE("GPL");
