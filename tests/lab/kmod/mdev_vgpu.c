// SPDX-License-Identifier: GPL-2.0
/*
 * A mediated device: what VFIO shows to its user.
 *
 * A conventional PCI display with one BAR, a window of the parent's VRAM that
 * is mapped straight into the user. It has no interrupts and does no DMA.
 */
#include <linux/iommufd.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/uaccess.h>
#include <linux/unaligned.h>
#include <linux/vfio.h>
#include "simgpu_mdev.h"

/* Regions as vfio-pci lays them out: the index in the high bits. */
#define REGION_SHIFT		40
#define REGION_OFFSET(index)	((u64)(index) << REGION_SHIFT)
#define REGION_INDEX(pos)	((u64)(pos) >> REGION_SHIFT)
#define REGION_MASK		(REGION_OFFSET(1) - 1)

struct vgpu {
	struct vfio_device vdev;
	struct vgpu_window window;
	struct mutex lock;		/* guards config */
	u8 config[PCI_CFG_SPACE_SIZE];
	u8 writable[PCI_CFG_SPACE_SIZE];
};

static struct vgpu *to_vgpu(struct vfio_device *vdev)
{
	return container_of(vdev, struct vgpu, vdev);
}

static void vgpu_config_power_on(struct vgpu *vgpu)
{
	u8 *config = vgpu->config;
	u8 *writable = vgpu->writable;

	memset(config, 0, sizeof(vgpu->config));
	put_unaligned_le16(SIMGPU_VENDOR_ID, config + PCI_VENDOR_ID);
	put_unaligned_le16(SIMGPU_VGPU_ID, config + PCI_DEVICE_ID);
	put_unaligned_le32(PCI_CLASS_DISPLAY_VGA << 16 | 1,
			   config + PCI_CLASS_REVISION);
	put_unaligned_le16(SIMGPU_VENDOR_ID, config + PCI_SUBSYSTEM_VENDOR_ID);
	put_unaligned_le16(SIMGPU_VGPU_ID, config + PCI_SUBSYSTEM_ID);
	put_unaligned_le32(PCI_BASE_ADDRESS_MEM_TYPE_64 |
			   PCI_BASE_ADDRESS_MEM_PREFETCH,
			   config + PCI_BASE_ADDRESS_0);

	put_unaligned_le16(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER,
			   writable + PCI_COMMAND);
	put_unaligned_le64(~(vgpu->window.size - 1),
			   writable + PCI_BASE_ADDRESS_0);
	writable[PCI_CACHE_LINE_SIZE] = 0xff;
	writable[PCI_INTERRUPT_LINE] = 0xff;
}

/* Resets like vfio-pci: when asked to, and around each user. */
static int vgpu_reset(struct vgpu *vgpu)
{
	int ret = simgpu_window_reset(vgpu->window.gpu, vgpu->window.offset,
				      vgpu->window.size);

	if (ret)
		return ret;
	guard(mutex)(&vgpu->lock);
	vgpu_config_power_on(vgpu);
	return 0;
}

static int vgpu_open_device(struct vfio_device *vdev)
{
	struct vgpu *vgpu = to_vgpu(vdev);

	if (vgpu_reset(vgpu))
		dev_warn(vdev->dev, "reset at open failed\n");
	return 0;
}

static void vgpu_close_device(struct vfio_device *vdev)
{
	struct vgpu *vgpu = to_vgpu(vdev);

	if (vgpu_reset(vgpu))
		dev_warn(vdev->dev, "reset at close failed\n");
}

static ssize_t vgpu_config_read(struct vgpu *vgpu, char __user *buf,
				size_t count, u64 offset)
{
	u8 bytes[PCI_CFG_SPACE_SIZE];

	if (offset >= PCI_CFG_SPACE_SIZE)
		return -EINVAL;
	count = min_t(u64, count, PCI_CFG_SPACE_SIZE - offset);

	scoped_guard(mutex, &vgpu->lock)
		memcpy(bytes, vgpu->config + offset, count);
	return copy_to_user(buf, bytes, count) ? -EFAULT : count;
}

static ssize_t vgpu_config_write(struct vgpu *vgpu, const char __user *buf,
				 size_t count, u64 offset)
{
	u8 bytes[PCI_CFG_SPACE_SIZE];

	if (offset >= PCI_CFG_SPACE_SIZE)
		return -EINVAL;
	count = min_t(u64, count, PCI_CFG_SPACE_SIZE - offset);
	if (copy_from_user(bytes, buf, count))
		return -EFAULT;

	guard(mutex)(&vgpu->lock);
	for (size_t i = 0; i < count; i++) {
		u8 writable = vgpu->writable[offset + i];
		u8 *reg = &vgpu->config[offset + i];

		*reg = (*reg & ~writable) | (bytes[i] & writable);
	}
	return count;
}

/* Bytes of the window from @offset on, at most @count. */
static size_t vgpu_window_bytes(struct vgpu *vgpu, size_t count, u64 offset)
{
	if (offset >= vgpu->window.size)
		return 0;
	return min_t(u64, count, vgpu->window.size - offset);
}

static ssize_t vgpu_read(struct vfio_device *vdev, char __user *buf,
			 size_t count, loff_t *ppos)
{
	struct vgpu *vgpu = to_vgpu(vdev);
	u64 offset = *ppos & REGION_MASK;
	ssize_t done;

	switch (REGION_INDEX(*ppos)) {
	case VFIO_PCI_CONFIG_REGION_INDEX:
		done = vgpu_config_read(vgpu, buf, count, offset);
		break;
	case VFIO_PCI_BAR0_REGION_INDEX:
		count = vgpu_window_bytes(vgpu, count, offset);
		if (!count)
			return -EINVAL;
		done = simgpu_vram_read(vgpu->window.gpu, buf, count,
					vgpu->window.offset + offset);
		break;
	default:
		return -EINVAL;
	}
	if (done > 0)
		*ppos += done;
	return done;
}

static ssize_t vgpu_write(struct vfio_device *vdev, const char __user *buf,
			  size_t count, loff_t *ppos)
{
	struct vgpu *vgpu = to_vgpu(vdev);
	u64 offset = *ppos & REGION_MASK;
	ssize_t done;

	switch (REGION_INDEX(*ppos)) {
	case VFIO_PCI_CONFIG_REGION_INDEX:
		done = vgpu_config_write(vgpu, buf, count, offset);
		break;
	case VFIO_PCI_BAR0_REGION_INDEX:
		count = vgpu_window_bytes(vgpu, count, offset);
		if (!count)
			return -EINVAL;
		done = simgpu_vram_write(vgpu->window.gpu, buf, count,
					 vgpu->window.offset + offset);
		break;
	default:
		return -EINVAL;
	}
	if (done > 0)
		*ppos += done;
	return done;
}

static int vgpu_mmap(struct vfio_device *vdev, struct vm_area_struct *vma)
{
	struct vgpu *vgpu = to_vgpu(vdev);
	u64 pos = (u64)vma->vm_pgoff << PAGE_SHIFT;
	u64 offset = pos & REGION_MASK;
	u64 size = vma->vm_end - vma->vm_start;

	if (REGION_INDEX(pos) != VFIO_PCI_BAR0_REGION_INDEX ||
	    !(vma->vm_flags & VM_SHARED) ||
	    offset >= vgpu->window.size || size > vgpu->window.size - offset)
		return -EINVAL;

	/* As simgpu maps it: one memory type for all mappings of a page. */
	vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
	return io_remap_pfn_range(vma, vma->vm_start,
				  PHYS_PFN(simgpu_vram_phys(vgpu->window.gpu,
							    vgpu->window.offset + offset)),
				  size, vma->vm_page_prot);
}

static long vgpu_get_info(void __user *arg)
{
	unsigned long minsz = offsetofend(struct vfio_device_info, num_irqs);
	struct vfio_device_info info;

	if (copy_from_user(&info, arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz)
		return -EINVAL;
	info.flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
	info.num_regions = VFIO_PCI_NUM_REGIONS;
	info.num_irqs = VFIO_PCI_NUM_IRQS;
	return copy_to_user(arg, &info, minsz) ? -EFAULT : 0;
}

static long vgpu_get_region_info(struct vgpu *vgpu, void __user *arg)
{
	unsigned long minsz = offsetofend(struct vfio_region_info, offset);
	struct vfio_region_info info;

	if (copy_from_user(&info, arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz || info.index >= VFIO_PCI_NUM_REGIONS)
		return -EINVAL;

	info.offset = REGION_OFFSET(info.index);
	info.size = 0;
	info.flags = 0;
	info.cap_offset = 0;
	switch (info.index) {
	case VFIO_PCI_CONFIG_REGION_INDEX:
		info.size = PCI_CFG_SPACE_SIZE;
		info.flags = VFIO_REGION_INFO_FLAG_READ |
			     VFIO_REGION_INFO_FLAG_WRITE;
		break;
	case VFIO_PCI_BAR0_REGION_INDEX:
		info.size = vgpu->window.size;
		info.flags = VFIO_REGION_INFO_FLAG_READ |
			     VFIO_REGION_INFO_FLAG_WRITE |
			     VFIO_REGION_INFO_FLAG_MMAP;
		break;
	}
	return copy_to_user(arg, &info, minsz) ? -EFAULT : 0;
}

static long vgpu_get_irq_info(void __user *arg)
{
	unsigned long minsz = offsetofend(struct vfio_irq_info, count);
	struct vfio_irq_info info;

	if (copy_from_user(&info, arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz || info.index >= VFIO_PCI_NUM_IRQS)
		return -EINVAL;
	info.flags = 0;
	info.count = 0;
	return copy_to_user(arg, &info, minsz) ? -EFAULT : 0;
}

static long vgpu_ioctl(struct vfio_device *vdev, unsigned int cmd,
		       unsigned long arg)
{
	struct vgpu *vgpu = to_vgpu(vdev);

	switch (cmd) {
	case VFIO_DEVICE_GET_INFO:
		return vgpu_get_info((void __user *)arg);
	case VFIO_DEVICE_GET_REGION_INFO:
		return vgpu_get_region_info(vgpu, (void __user *)arg);
	case VFIO_DEVICE_GET_IRQ_INFO:
		return vgpu_get_irq_info((void __user *)arg);
	case VFIO_DEVICE_SET_IRQS:
		return -EINVAL;
	case VFIO_DEVICE_RESET:
		return vgpu_reset(vgpu);
	default:
		return -ENOTTY;
	}
}

static int vgpu_init_dev(struct vfio_device *vdev)
{
	mutex_init(&to_vgpu(vdev)->lock);
	return 0;
}

static void vgpu_release_dev(struct vfio_device *vdev)
{
	struct vgpu *vgpu = to_vgpu(vdev);

	vgpu->window.put(vgpu->window.owner);
}

static const struct vfio_device_ops vgpu_dev_ops = {
	.name = "simgpu_mdev",
	.init = vgpu_init_dev,
	.release = vgpu_release_dev,
	.open_device = vgpu_open_device,
	.close_device = vgpu_close_device,
	.read = vgpu_read,
	.write = vgpu_write,
	.ioctl = vgpu_ioctl,
	.mmap = vgpu_mmap,
	/* NULL where VFIO is built without iommufd */
	.bind_iommufd = vfio_iommufd_emulated_bind,
	.unbind_iommufd = vfio_iommufd_emulated_unbind,
	.attach_ioas = vfio_iommufd_emulated_attach_ioas,
	.detach_ioas = vfio_iommufd_emulated_detach_ioas,
};

/* Makes the device in its parent's probe. */
int simgpu_vgpu_make(struct mdev_device *mdev, const struct vgpu_window *window)
{
	struct vgpu *vgpu;
	int ret;

	vgpu = vfio_alloc_device(vgpu, vdev, &mdev->dev, &vgpu_dev_ops);
	if (IS_ERR(vgpu)) {
		window->put(window->owner);
		return PTR_ERR(vgpu);
	}
	vgpu->window = *window;
	vgpu_config_power_on(vgpu);
	ret = vfio_register_emulated_iommu_dev(&vgpu->vdev);
	if (ret) {
		vfio_put_device(&vgpu->vdev);
		return ret;
	}
	dev_set_drvdata(&mdev->dev, vgpu);
	return 0;
}
EXPORT_SYMBOL_GPL(simgpu_vgpu_make);

/* Waits until the user has closed the device. */
void simgpu_vgpu_remove(struct mdev_device *mdev)
{
	struct vgpu *vgpu = dev_get_drvdata(&mdev->dev);

	vfio_unregister_group_dev(&vgpu->vdev);
	vfio_put_device(&vgpu->vdev);
}
EXPORT_SYMBOL_GPL(simgpu_vgpu_remove);

static ssize_t vram_offset_show(struct device *dev,
				struct device_attribute *attr, char *buf)
{
	struct vgpu *vgpu = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%llu\n", vgpu->window.offset);
}
static DEVICE_ATTR_RO(vram_offset);

static ssize_t vram_size_show(struct device *dev,
			      struct device_attribute *attr, char *buf)
{
	struct vgpu *vgpu = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%llu\n", vgpu->window.size);
}
static DEVICE_ATTR_RO(vram_size);

static struct attribute *vgpu_attrs[] = {
	&dev_attr_vram_offset.attr,
	&dev_attr_vram_size.attr,
	NULL,
};

static const struct attribute_group vgpu_group = {
	.name = "simgpu",
	.attrs = vgpu_attrs,
};

const struct attribute_group *simgpu_vgpu_groups[] = {
	&vgpu_group,
	NULL,
};
EXPORT_SYMBOL_GPL(simgpu_vgpu_groups);
