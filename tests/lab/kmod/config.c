// SPDX-License-Identifier: GPL-2.0
/*
 * Emulated config space.
 *
 * A register is a byte of a power-on image and a mask of the bits that stick;
 * only what has an effect (FLR, VF Enable) is looked at when it is written.
 * Registers: PCI Express Base Specification 6.0, chapters 7 and 9.
 */
#include <linux/bits.h>
#include <linux/unaligned.h>
#include "simgpu.h"

/* Where the capabilities lie. */
#define PCIE_CAP	0x40
#define MSIX_CAP	0x80
#define SRIOV_CAP	0x100

#define DEVCTL		(PCIE_CAP + PCI_EXP_DEVCTL)
#define SRIOV_CTRL	(SRIOV_CAP + PCI_SRIOV_CTRL)
#define SRIOV_NUM_VF	(SRIOV_CAP + PCI_SRIOV_NUM_VF)

/* 4K, 8K, 64K, 256K, 1M and 4M: what the specification asks of every device. */
#define SRIOV_PAGE_SIZES	0x553

static void put16(u8 *space, int where, u16 value)
{
	put_unaligned_le16(value, space + where);
}

static void put32(u8 *space, int where, u32 value)
{
	put_unaligned_le32(value, space + where);
}

/*
 * The BAR comes up with its address set, as firmware would leave it, and the
 * address is where the RAM is. Writing it sizes the BAR and does not move it.
 */
static void put_bar64(struct simgpu_image *image, int where, u64 base, u64 size)
{
	u64 value = base | PCI_BASE_ADDRESS_MEM_TYPE_64 |
		    PCI_BASE_ADDRESS_MEM_PREFETCH;
	u64 writable = ~(size - 1);

	put32(image->config, where, lower_32_bits(value));
	put32(image->config, where + 4, upper_32_bits(value));
	put32(image->writable, where, lower_32_bits(writable));
	put32(image->writable, where + 4, upper_32_bits(writable));
}

static void put_pcie_cap(struct simgpu_image *image)
{
	u8 *cap = image->config + PCIE_CAP;

	put16(cap, PCI_CAP_LIST_ID, PCI_CAP_ID_EXP | MSIX_CAP << 8);
	put16(cap, PCI_EXP_FLAGS, 2 | PCI_EXP_TYPE_ENDPOINT << 4);
	put32(cap, PCI_EXP_DEVCAP, PCI_EXP_DEVCAP_RBER | PCI_EXP_DEVCAP_FLR);
	put32(cap, PCI_EXP_LNKCAP, PCI_EXP_LNKCAP_SLS_16_0GB | 16 << 4);
	put16(cap, PCI_EXP_LNKSTA, PCI_EXP_LNKSTA_CLS_16_0GB | 16 << 4);
	put32(cap, PCI_EXP_LNKCAP2, PCI_EXP_LNKCAP2_SLS_2_5GB |
	      PCI_EXP_LNKCAP2_SLS_5_0GB | PCI_EXP_LNKCAP2_SLS_8_0GB |
	      PCI_EXP_LNKCAP2_SLS_16_0GB);
}

/*
 * The kernel and VFIO can set vectors up; nothing ever raises one. VFIO's own
 * trigger (VFIO_IRQ_SET_ACTION_TRIGGER without an eventfd) does not need it to.
 */
static void put_msix_cap(struct simgpu_image *image)
{
	u8 *cap = image->config + MSIX_CAP;

	put16(cap, PCI_CAP_LIST_ID, PCI_CAP_ID_MSIX);
	put16(cap, PCI_MSIX_FLAGS, SIMGPU_MSIX_VECTORS - 1);
	put32(cap, PCI_MSIX_TABLE, SIMGPU_MSIX_TABLE | 2);
	put32(cap, PCI_MSIX_PBA, SIMGPU_MSIX_PBA | 2);
	put16(image->writable, MSIX_CAP + PCI_MSIX_FLAGS,
	      PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
}

static void put_header(struct simgpu_image *image,
		       const struct simgpu_model *model)
{
	put16(image->config, PCI_STATUS, PCI_STATUS_CAP_LIST);
	put32(image->config, PCI_CLASS_REVISION, model->class << 8 | 1);
	put16(image->config, PCI_SUBSYSTEM_VENDOR_ID, model->subvendor);
	put16(image->config, PCI_SUBSYSTEM_ID, model->subdevice);
	image->config[PCI_CAPABILITY_LIST] = PCIE_CAP;
	put_pcie_cap(image);
	put_msix_cap(image);
}

static void init_pf_image(struct simgpu *gpu)
{
	const struct simgpu_model *model = gpu->model;
	struct simgpu_image *image = &gpu->pf_image;

	put_header(image, model);
	put16(image->config, PCI_VENDOR_ID, model->vendor);
	put16(image->config, PCI_DEVICE_ID, model->device);
	put_bar64(image, PCI_BASE_ADDRESS_0, gpu->vram_res.start,
		  model->vram_size);
	put_bar64(image, PCI_BASE_ADDRESS_2, gpu->regs_res.start,
		  SIMGPU_REGS_SIZE);

	put16(image->writable, PCI_COMMAND,
	      PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY |
	      PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE);
	image->writable[PCI_CACHE_LINE_SIZE] = 0xff;
	image->writable[PCI_INTERRUPT_LINE] = 0xff;
	put16(image->writable, DEVCTL, 0xffff & ~PCI_EXP_DEVCTL_BCR_FLR);
}

static void init_sriov_cap(struct simgpu *gpu)
{
	const struct simgpu_model *model = gpu->model;
	struct simgpu_image *image = &gpu->pf_image;
	u8 *cap = image->config + SRIOV_CAP;

	put32(cap, 0, PCI_EXT_CAP_ID_SRIOV | 1 << 16);
	put16(cap, PCI_SRIOV_INITIAL_VF, model->total_vfs);
	put16(cap, PCI_SRIOV_TOTAL_VF, model->total_vfs);
	put16(cap, PCI_SRIOV_VF_OFFSET, model->vf_offset);
	put16(cap, PCI_SRIOV_VF_STRIDE, model->vf_stride);
	put16(cap, PCI_SRIOV_VF_DID, model->vf_device);
	put32(cap, PCI_SRIOV_SUP_PGSIZE, SRIOV_PAGE_SIZES);
	put32(cap, PCI_SRIOV_SYS_PGSIZE, 1);
	put_bar64(image, SRIOV_CAP + PCI_SRIOV_BAR,
		  gpu->vram_res.start + model->vram_size,
		  simgpu_model_vf_size(model));
	put_bar64(image, SRIOV_CAP + PCI_SRIOV_BAR + 8,
		  gpu->regs_res.start + SIMGPU_REGS_SIZE, SIMGPU_REGS_SIZE);

	put16(image->writable, SRIOV_CTRL,
	      PCI_SRIOV_CTRL_VFE | PCI_SRIOV_CTRL_MSE);
	put16(image->writable, SRIOV_NUM_VF, 0xffff);
	put32(image->writable, SRIOV_CAP + PCI_SRIOV_SYS_PGSIZE,
	      SRIOV_PAGE_SIZES);
}

/* A VF has no ids, no BARs and no Memory Space Enable: the PF has them. */
static void init_vf_image(struct simgpu *gpu)
{
	struct simgpu_image *image = &gpu->vf_image;

	put_header(image, gpu->model);
	put16(image->config, PCI_VENDOR_ID, 0xffff);
	put16(image->config, PCI_DEVICE_ID, 0xffff);
	put16(image->config, PCI_SUBSYSTEM_ID, gpu->model->vf_device);
	put16(image->writable, PCI_COMMAND, PCI_COMMAND_MASTER);
}

/* Needs the addresses of VRAM and registers. */
void simgpu_config_init(struct simgpu *gpu)
{
	init_pf_image(gpu);
	if (gpu->model->total_vfs)
		init_sriov_cap(gpu);
	init_vf_image(gpu);
}

static const struct simgpu_image *image_of(const struct simgpu_func *fn)
{
	return fn->index ? &fn->gpu->vf_image : &fn->gpu->pf_image;
}

/* Called with gpu->lock held, or before the bus exists. */
void simgpu_config_power_on(struct simgpu_func *fn)
{
	memcpy(fn->config, image_of(fn)->config, SIMGPU_CONFIG_SIZE);
}

static struct simgpu_func *func_at(struct pci_bus *bus, unsigned int devfn)
{
	struct simgpu *gpu = container_of((struct pci_sysdata *)bus->sysdata,
					  struct simgpu, sysdata);

	for (unsigned int i = 0; i < gpu->nr_functions; i++)
		if (gpu->functions[i].devfn == devfn)
			return &gpu->functions[i];
	return NULL;
}

/*
 * Nobody home reads as all ones and is no error, as on a bus with ECAM: that
 * is how the kernel tells an absent function from one that is being reset.
 */
static int config_read(struct pci_bus *bus, unsigned int devfn, int where,
		       int size, u32 *val)
{
	struct simgpu_func *fn = func_at(bus, devfn);
	unsigned long flags;

	PCI_SET_ERROR_RESPONSE(val);
	if (!fn)
		return PCIBIOS_SUCCESSFUL;

	raw_spin_lock_irqsave(&fn->gpu->lock, flags);
	if (fn->state == SIMGPU_READY) {
		*val = 0;
		for (int i = 0; i < size; i++)
			*val |= (u32)fn->config[where + i] << (8 * i);
	}
	raw_spin_unlock_irqrestore(&fn->gpu->lock, flags);
	return PCIBIOS_SUCCESSFUL;
}

/* The 16-bit register at @reg as written, 0 if the write did not cover it. */
static u16 written_word(int reg, int where, int size, u32 val)
{
	if (where > reg || where + size < reg + 2)
		return 0;
	return val >> (8 * (reg - where));
}

static void config_store(struct simgpu_func *fn, int where, int size, u32 val)
{
	const u8 *writable = image_of(fn)->writable + where;
	u8 *reg = fn->config + where;

	for (int i = 0; i < size; i++) {
		u8 byte = val >> (8 * i);

		reg[i] = (reg[i] & ~writable[i]) | (byte & writable[i]);
	}
}

static int config_write(struct pci_bus *bus, unsigned int devfn, int where,
			int size, u32 val)
{
	struct simgpu_func *fn = func_at(bus, devfn);
	unsigned long flags;
	u16 before, after;

	if (!fn)
		return PCIBIOS_SUCCESSFUL;

	raw_spin_lock_irqsave(&fn->gpu->lock, flags);
	if (fn->state != SIMGPU_READY)
		goto out;

	before = get_unaligned_le16(fn->config + SRIOV_CTRL);
	config_store(fn, where, size, val);
	after = get_unaligned_le16(fn->config + SRIOV_CTRL);

	if ((before ^ after) & PCI_SRIOV_CTRL_VFE)
		simgpu_enable_vfs(fn->gpu, after & PCI_SRIOV_CTRL_VFE ?
				  get_unaligned_le16(fn->config + SRIOV_NUM_VF) : 0);
	if (written_word(DEVCTL, where, size, val) & PCI_EXP_DEVCTL_BCR_FLR)
		simgpu_func_flr(fn);
out:
	raw_spin_unlock_irqrestore(&fn->gpu->lock, flags);
	return PCIBIOS_SUCCESSFUL;
}

struct pci_ops simgpu_pci_ops = {
	.read = config_read,
	.write = config_write,
};
