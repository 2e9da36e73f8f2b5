// SPDX-License-Identifier: GPL-2.0
/*
 * simgpu: module parameters, and one PCI root bus for each GPU.
 *
 * A root bus of its own keeps a GPU's functions in IOMMU groups of one each:
 * there is no bridge above that could send their traffic to each other.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/nodemask.h>
#include <linux/numa.h>
#include "simgpu.h"

#define FIRST_BUS	0xf0
#define MAX_GPUS	16

static char *gpus[MAX_GPUS] = { "sim" };
static unsigned int nr_gpus;
module_param_array(gpus, charp, &nr_gpus, 0444);
MODULE_PARM_DESC(gpus, "models, one a GPU: mi300x, flex170, sim, simmdev, rtx5070, b580 (default: sim)");

static int node[MAX_GPUS];
static unsigned int nr_nodes;
module_param_array(node, int, &nr_nodes, 0444);
MODULE_PARM_DESC(node, "NUMA nodes, one a GPU (default: none)");

static ulong base = 0x200000000;
module_param(base, ulong, 0444);
MODULE_PARM_DESC(base, "physical address of the RAM that backs VRAM; hide it from the kernel with mem= (default: 8G)");

static ulong span = 0x80000000;
module_param(span, ulong, 0444);
MODULE_PARM_DESC(span, "bytes of that RAM (default: 2G)");

static LIST_HEAD(gpu_list);

/* Also for a PF that is unplugged and comes back. pci_rescan_remove_lock. */
void simgpu_bus_scan(struct simgpu *gpu)
{
	pci_scan_child_bus(gpu->bus);
	pci_bus_claim_resources(gpu->bus);
	pci_bus_add_devices(gpu->bus);
}

/* Without RAM behind it, a BAR would read as ones in guests, much later. */
static bool vram_holds(struct simgpu *gpu, u64 offset, u32 value)
{
	u32 __iomem *word = gpu->vram + offset;
	u32 before = readl(word);
	bool holds;

	writel(value, word);
	holds = readl(word) == value;
	writel(before, word);
	return holds;
}

static int map_vram(struct simgpu *gpu)
{
	u64 size = resource_size(&gpu->mem);
	u64 last = size - sizeof(u32);

	/* The kernel's own memory would be handed to guests. */
	if (region_intersects(gpu->mem.start, size, IORESOURCE_SYSTEM_RAM,
			      IORES_DESC_NONE) != REGION_DISJOINT) {
		pr_err("%pR is RAM that the kernel uses: hide it with mem=\n",
		       &gpu->mem);
		return -EBUSY;
	}

	gpu->vram = ioremap(gpu->mem.start, size);
	if (!gpu->vram)
		return -ENOMEM;
	if (!vram_holds(gpu, 0, 0x5a5a5a5a) || !vram_holds(gpu, last, 0xa5a5a5a5)) {
		pr_err("%pR is not RAM: give the machine more, or set base= and span=\n",
		       &gpu->mem);
		iounmap(gpu->vram);
		return -ENXIO;
	}
	return 0;
}

static int add_bus(struct simgpu *gpu)
{
	LIST_HEAD(windows);

	pci_add_resource(&windows, &gpu->mem);
	pci_add_resource(&windows, &gpu->busn);

	pci_lock_rescan_remove();
	gpu->bus = pci_create_root_bus(NULL, gpu->busnr, &simgpu_pci_ops,
				       &gpu->sysdata, &windows);
	if (gpu->bus)
		simgpu_bus_scan(gpu);
	pci_unlock_rescan_remove();

	if (!gpu->bus) {
		pci_free_resource_list(&windows);
		return -ENODEV;
	}
	return 0;
}

static int add_gpu(const struct simgpu_model *model, int busnr, int numa_node,
		   u64 start)
{
	unsigned int nr_functions = 1 + model->total_vfs;
	struct simgpu *gpu;
	int ret;

	gpu = kvzalloc(struct_size(gpu, functions, nr_functions), GFP_KERNEL);
	if (!gpu)
		return -ENOMEM;
	gpu->model = model;
	gpu->busnr = busnr;
	gpu->nr_functions = nr_functions;
	gpu->sysdata.domain = SIMGPU_DOMAIN;
	gpu->sysdata.node = numa_node;
	gpu->mem = (struct resource)DEFINE_RES_NAMED(start, simgpu_model_span(model),
						     "simgpu", IORESOURCE_MEM |
						     IORESOURCE_MEM_64 |
						     IORESOURCE_PREFETCH);
	gpu->busn = (struct resource)DEFINE_RES_NAMED(busnr, 1, "simgpu",
						      IORESOURCE_BUS);
	raw_spin_lock_init(&gpu->lock);
	simgpu_config_init(gpu);
	for (unsigned int i = 0; i < nr_functions; i++)
		simgpu_func_init(gpu, i);

	ret = request_resource(&iomem_resource, &gpu->mem);
	if (ret) {
		pr_err("%pR is taken\n", &gpu->mem);
		goto err_free;
	}
	ret = map_vram(gpu);
	if (ret)
		goto err_release;
	ret = add_bus(gpu);
	if (ret)
		goto err_unmap;

	simgpu_knobs_add(gpu);
	list_add_tail(&gpu->node, &gpu_list);
	return 0;

err_unmap:
	iounmap(gpu->vram);
err_release:
	release_resource(&gpu->mem);
err_free:
	kvfree(gpu);
	return ret;
}

/* Waits for VFIO users of the GPU's functions. */
static void remove_gpu(struct simgpu *gpu)
{
	list_del(&gpu->node);
	simgpu_knobs_remove(gpu);
	for (unsigned int i = 0; i < gpu->nr_functions; i++)
		cancel_work_sync(&gpu->functions[i].unplug_work);

	pci_lock_rescan_remove();
	pci_stop_root_bus(gpu->bus);
	pci_remove_root_bus(gpu->bus);
	pci_unlock_rescan_remove();

	/* The last config cycle is over, so no reset can be started any more. */
	for (unsigned int i = 0; i < gpu->nr_functions; i++)
		cancel_delayed_work_sync(&gpu->functions[i].reset_work);
	iounmap(gpu->vram);
	release_resource(&gpu->mem);
	kvfree(gpu);
}

static void remove_gpus(void)
{
	struct simgpu *gpu, *next;

	list_for_each_entry_safe(gpu, next, &gpu_list, node)
		remove_gpu(gpu);
}

static int numa_node_of(unsigned int index)
{
	if (index >= nr_nodes || node[index] == NUMA_NO_NODE)
		return NUMA_NO_NODE;
	if (node[index] < 0 || node[index] >= MAX_NUMNODES ||
	    !node_online(node[index])) {
		pr_warn("node %d is not online, GPU %u gets none\n",
			node[index], index);
		return NUMA_NO_NODE;
	}
	return node[index];
}

static int add_gpus(void)
{
	u64 next = base;
	int ret;

	for (unsigned int i = 0; i < max(nr_gpus, 1U); i++) {
		const struct simgpu_model *model = simgpu_model_find(gpus[i]);
		int busnr = FIRST_BUS + i;
		u64 start;

		if (!model) {
			pr_err("no model \"%s\"\n", gpus[i]);
			return -EINVAL;
		}
		if (pci_find_bus(SIMGPU_DOMAIN, busnr)) {
			pr_err("PCI bus %02x is taken\n", busnr);
			return -EBUSY;
		}
		/* A BAR is aligned to its size, and none is larger than this. */
		start = ALIGN(next, model->vram_size);
		next = start + simgpu_model_span(model);
		if (next > (u64)base + span) {
			pr_err("%u GPUs need more VRAM than span=0x%lx\n",
			       nr_gpus, span);
			return -ENOSPC;
		}
		ret = add_gpu(model, busnr, numa_node_of(i), start);
		if (ret)
			return ret;
	}
	return 0;
}

static int __init simgpu_init(void)
{
	int ret;

	/* Unbound: removal of a function waits as long as VFIO has a user. */
	simgpu_wq = alloc_workqueue("simgpu", WQ_UNBOUND, 0);
	if (!simgpu_wq)
		return -ENOMEM;
	simgpu_knobs_init();

	ret = add_gpus();
	if (!ret)
		ret = simgpu_driver_register();
	if (ret) {
		remove_gpus();
		simgpu_knobs_exit();
		destroy_workqueue(simgpu_wq);
	}
	return ret;
}

static void __exit simgpu_exit(void)
{
	simgpu_driver_unregister();
	remove_gpus();
	simgpu_knobs_exit();
	destroy_workqueue(simgpu_wq);
}

module_init(simgpu_init);
module_exit(simgpu_exit);
MODULE_DESCRIPTION("Simulated SR-IOV GPUs");
MODULE_LICENSE("GPL");
