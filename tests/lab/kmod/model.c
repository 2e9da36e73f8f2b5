// SPDX-License-Identifier: GPL-2.0
/*
 * The models: identities that a host tool meets in the field.
 *
 * Vendor, device and VF device ids and VF counts are those of the real cards;
 * VRAM is scaled down so that several GPUs fit into a small host.
 */
#include <linux/log2.h>
#include <linux/sizes.h>
#include <linux/string.h>
#include "simgpu.h"

#define CLASS_VGA	(PCI_CLASS_DISPLAY_VGA << 8)
#define CLASS_3D	(PCI_CLASS_DISPLAY_3D << 8)
#define CLASS_DISPLAY	(PCI_CLASS_DISPLAY_OTHER << 8)
#define CLASS_ACCEL	(PCI_CLASS_ACCELERATOR_PROCESSING << 8)

#define S7150							\
	.vendor = PCI_VENDOR_ID_ATI, .device = SIMGPU_S7150_ID,	\
	.subvendor = PCI_VENDOR_ID_ATI, .subdevice = SIMGPU_S7150_ID, \
	.driver = SIMGPU_DRIVER_SRIOV, .class = CLASS_DISPLAY,	\
	.total_vfs = 16, .vf_device = SIMGPU_S7150_VF_ID,	\
	.vf_offset = PCI_DEVFN(2, 0), .vf_stride = 1,		\
	.clrvffb = true

#define MI300X							\
	.vendor = PCI_VENDOR_ID_ATI, .device = 0x74a1,		\
	.subvendor = PCI_VENDOR_ID_ATI, .subdevice = 0x74a1,	\
	.class = CLASS_ACCEL, .vram_size = SZ_128M,		\
	.total_vfs = 8, .vf_device = 0x74b5,			\
	.vf_offset = PCI_DEVFN(2, 0), .vf_stride = PCI_DEVFN(1, 0)

#define FLEX170							\
	.vendor = PCI_VENDOR_ID_INTEL, .device = 0x56c0,	\
	.subvendor = PCI_VENDOR_ID_INTEL, .subdevice = 0x56c0,	\
	.class = CLASS_DISPLAY, .vram_size = SZ_128M,		\
	.total_vfs = 31, .vf_device = 0x56c0,			\
	.vf_offset = 1, .vf_stride = 1

static const struct simgpu_model models[] = {
	{
		/* AMD Instinct MI300X; VFs of real ones start at 02.0 */
		.name = "mi300x", .driver = SIMGPU_DRIVER_SRIOV,
		MI300X,
	}, {
		/* The same as AMD's own PF driver has it */
		.name = "mi300x-gim", .driver = SIMGPU_DRIVER_GIM,
		MI300X, .flr = SIMGPU_FLR_LEAVE,
	}, {
		/* Intel Data Center GPU Flex 170; PF and VF share one id */
		.name = "flex170", .driver = SIMGPU_DRIVER_SRIOV,
		FLEX170,
	}, {
		/* The same as the kernel's own driver has it */
		.name = "flex170-xe", .driver = SIMGPU_DRIVER_XE,
		FLEX170, .flr = SIMGPU_FLR_LATE,
	}, {
		/* Intel Arc Pro B60; its number of VFs is an assumption */
		.name = "b60", .driver = SIMGPU_DRIVER_XE,
		.vendor = PCI_VENDOR_ID_INTEL, .device = 0xe211,
		.subvendor = PCI_VENDOR_ID_INTEL, .subdevice = 0xe211,
		.class = CLASS_VGA, .vram_size = SZ_128M,
		.total_vfs = 24, .vf_device = 0xe211,
		.vf_offset = 1, .vf_stride = 1, .flr = SIMGPU_FLR_LATE,
	}, {
		/* AMD FirePro S7150, whose driver clears a VF when asked to */
		.name = "s7150",
		S7150, .vram_size = SZ_64M,
	}, {
		/* The same with so little VRAM that a VF's BAR is none to vgpud */
		.name = "s7150-blind",
		S7150, .vram_size = SZ_8M,
	}, {
		/* no vendor's: the plain SR-IOV GPU */
		.name = "sim", .driver = SIMGPU_DRIVER_SRIOV,
		.vendor = SIMGPU_VENDOR_ID, .device = SIMGPU_SIM_ID,
		.subvendor = SIMGPU_VENDOR_ID, .subdevice = SIMGPU_SIM_ID,
		.class = CLASS_3D, .vram_size = SZ_128M,
		.total_vfs = 8, .vf_device = SIMGPU_SIM_VF_ID,
		.vf_offset = PCI_DEVFN(1, 0), .vf_stride = PCI_DEVFN(1, 0),
	}, {
		/* no vendor's: mediated devices, see mdev_parent.c */
		.name = "simmdev", .driver = SIMGPU_DRIVER_MDEV,
		.vendor = SIMGPU_VENDOR_ID, .device = SIMGPU_SIMMDEV_ID,
		.subvendor = SIMGPU_VENDOR_ID, .subdevice = SIMGPU_SIMMDEV_ID,
		.class = CLASS_VGA, .vram_size = SZ_256M,
	}, {
		/* GeForce RTX 5070: says one VF, and no driver enables it */
		.name = "rtx5070", .driver = SIMGPU_DRIVER_DISPLAY,
		.vendor = PCI_VENDOR_ID_NVIDIA, .device = 0x2f04,
		.subvendor = PCI_VENDOR_ID_NVIDIA, .subdevice = 0x2f04,
		.class = CLASS_VGA, .vram_size = SZ_32M,
		.total_vfs = 1, .vf_device = 0x2f04,
		.vf_offset = PCI_DEVFN(1, 0), .vf_stride = PCI_DEVFN(1, 0),
	}, {
		/* NVIDIA T4: vGPUs are mediated devices of the PF */
		.name = "t4", .driver = SIMGPU_DRIVER_NVIDIA,
		.vendor = PCI_VENDOR_ID_NVIDIA, .device = 0x1eb8,
		.subvendor = PCI_VENDOR_ID_NVIDIA, .subdevice = 0x1eb8,
		.class = CLASS_3D, .vram_size = SZ_16M,
	}, {
		/* NVIDIA L40S; where VFs lie is the L20's, of the same chip */
		.name = "l40s", .driver = SIMGPU_DRIVER_NVIDIA,
		.vendor = PCI_VENDOR_ID_NVIDIA, .device = 0x26b9,
		.subvendor = PCI_VENDOR_ID_NVIDIA, .subdevice = 0x26b9,
		.class = CLASS_3D, .vram_size = SZ_64M,
		.total_vfs = 32, .vf_device = 0x26b9,
		.vf_offset = 4, .vf_stride = 1,
	}, {
		/* NVIDIA A100 PCIe 80GB: with MIG; all about its VFs is assumed */
		.name = "a100", .driver = SIMGPU_DRIVER_NVIDIA,
		.vendor = PCI_VENDOR_ID_NVIDIA, .device = 0x20b5,
		.subvendor = PCI_VENDOR_ID_NVIDIA, .subdevice = 0x20b5,
		.class = CLASS_3D, .vram_size = SZ_128M,
		.total_vfs = 20, .vf_device = 0x20b5,
		.vf_offset = 4, .vf_stride = 1,
	}, {
		/* Intel Arc B580: no SR-IOV capability at all */
		.name = "b580", .driver = SIMGPU_DRIVER_DISPLAY,
		.vendor = PCI_VENDOR_ID_INTEL, .device = 0xe20b,
		.subvendor = PCI_VENDOR_ID_INTEL, .subdevice = 0xe20b,
		.class = CLASS_VGA, .vram_size = SZ_32M,
	},
};

const struct simgpu_model *simgpu_model_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(models); i++)
		if (!strcmp(models[i].name, name))
			return &models[i];
	return NULL;
}

/* The model after this one in the table; the first after NULL. */
const struct simgpu_model *simgpu_model_next(const struct simgpu_model *model)
{
	model = model ? model + 1 : models;
	return model < models + ARRAY_SIZE(models) ? model : NULL;
}

/* All VFs have the same BAR size, and a BAR's size is a power of two. */
u64 simgpu_model_vf_size(const struct simgpu_model *model)
{
	if (!model->total_vfs)
		return 0;
	return rounddown_pow_of_two(model->vram_size / model->total_vfs);
}

/*
 * Physical memory that a GPU takes: the PF's BAR0, then the VFs' BAR0s. On
 * real hardware the VFs' windows show parts of the PF's VRAM. Two ranges of
 * physical RAM cannot show the same bytes, so here they follow it. A multiple
 * of the VRAM size, which keeps the next GPU's BARs aligned only among GPUs of
 * one size: the caller aligns.
 */
u64 simgpu_model_span(const struct simgpu_model *model)
{
	return model->total_vfs ? 2 * model->vram_size : model->vram_size;
}
