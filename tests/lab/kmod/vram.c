// SPDX-License-Identifier: GPL-2.0
/* VRAM and registers as bytes: for debugfs, resets and simgpu_mdev. */
#include <linux/io.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include "simgpu.h"

u64 simgpu_vram_size(struct simgpu *gpu)
{
	return resource_size(&gpu->vram_res);
}
EXPORT_SYMBOL_GPL(simgpu_vram_size);

phys_addr_t simgpu_vram_phys(struct simgpu *gpu, u64 offset)
{
	return gpu->vram_res.start + offset;
}
EXPORT_SYMBOL_GPL(simgpu_vram_phys);

/* Sleeps: under software emulation a large window takes a while. */
void simgpu_vram_fill(struct simgpu *gpu, u64 offset, u64 size, u8 value)
{
	while (size) {
		u64 step = min_t(u64, size, SZ_1M);

		memset_io(gpu->vram + offset, value, step);
		offset += step;
		size -= step;
		cond_resched();
	}
}
EXPORT_SYMBOL_GPL(simgpu_vram_fill);

/* What a reset that succeeds makes of a window. */
void simgpu_vram_reset(struct simgpu *gpu, enum simgpu_flr how, u64 offset,
		       u64 size)
{
	if (how == SIMGPU_FLR_LEAVE)
		return;
	simgpu_vram_fill(gpu, offset, size, 0);
	if (how == SIMGPU_FLR_TABLE)
		simgpu_vram_fill(gpu, offset + size - SZ_4K, SZ_4K, 0xa5);
}
EXPORT_SYMBOL_GPL(simgpu_vram_reset);

/* An MSI-X table comes up empty, with every vector masked. */
void simgpu_regs_reset(struct simgpu_func *fn)
{
	void __iomem *regs = fn->gpu->regs + fn->index * SIMGPU_REGS_SIZE;

	memset_io(regs, 0, SIMGPU_REGS_SIZE);
	for (int i = 0; i < SIMGPU_MSIX_VECTORS; i++)
		writel(PCI_MSIX_ENTRY_CTRL_MASKBIT,
		       regs + SIMGPU_MSIX_TABLE + i * PCI_MSIX_ENTRY_SIZE +
		       PCI_MSIX_ENTRY_VECTOR_CTRL);
}

/* Bounces through a page, as user copies must not fault on device memory. */
ssize_t simgpu_vram_read(struct simgpu *gpu, char __user *buf, size_t count,
			 u64 offset)
{
	size_t done = 0;
	void *page;

	if (offset >= simgpu_vram_size(gpu))
		return 0;
	count = min_t(u64, count, simgpu_vram_size(gpu) - offset);

	page = kmalloc(PAGE_SIZE, GFP_KERNEL);
	if (!page)
		return -ENOMEM;
	while (done < count) {
		size_t step = min_t(size_t, count - done, PAGE_SIZE);

		memcpy_fromio(page, gpu->vram + offset + done, step);
		if (copy_to_user(buf + done, page, step))
			break;
		done += step;
		cond_resched();
	}
	kfree(page);
	return done || !count ? done : -EFAULT;
}
EXPORT_SYMBOL_GPL(simgpu_vram_read);

ssize_t simgpu_vram_write(struct simgpu *gpu, const char __user *buf,
			  size_t count, u64 offset)
{
	size_t done = 0;
	void *page;

	if (offset >= simgpu_vram_size(gpu))
		return -ENOSPC;
	count = min_t(u64, count, simgpu_vram_size(gpu) - offset);

	page = kmalloc(PAGE_SIZE, GFP_KERNEL);
	if (!page)
		return -ENOMEM;
	while (done < count) {
		size_t step = min_t(size_t, count - done, PAGE_SIZE);

		if (copy_from_user(page, buf + done, step))
			break;
		memcpy_toio(gpu->vram + offset + done, page, step);
		done += step;
		cond_resched();
	}
	kfree(page);
	return done || !count ? done : -EFAULT;
}
EXPORT_SYMBOL_GPL(simgpu_vram_write);
