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
MODULE_PARM_DESC(gpus, "models, one a GPU, by the names of the table of models (default: sim)");

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
static bool is_ram(void __iomem *word, u32 value)
{
	u32 before = readl(word);
	bool holds;

	writel(value, word);
	holds = readl(word) == value;
	writel(before, word);
	return holds;
}

static int claim_ram(struct resource *res, void __iomem **mapping)
{
	u64 size = resource_size(res);
	void __iomem *map;

	/* The kernel's own memory would be handed to guests. */
	if (region_intersects(res->start, size, IORESOURCE_SYSTEM_RAM,
			      IORES_DESC_NONE) != REGION_DISJOINT ||
	    request_resource(&iomem_resource, res)) {
		pr_err("%pR is in use: hide RAM from the kernel with mem=, or set base= and span=\n",
		       res);
		return -EBUSY;
	}

	map = ioremap(res->start, size);
	if (!map) {
		release_resource(res);
		return -ENOMEM;
	}
	if (!is_ram(map, 0x5a5a5a5a) ||
	    !is_ram(map + size - sizeof(u32), 0xa5a5a5a5)) {
		pr_err("%pR is not RAM: give the machine more, or set base= and span=\n",
		       res);
		iounmap(map);
		release_resource(res);
		return -ENXIO;
	}
	*mapping = map;
	return 0;
}

static void release_ram(struct resource *res, void __iomem *mapping)
{
	iounmap(mapping);
	release_resource(res);
}

static int add_bus(struct simgpu *gpu)
{
	LIST_HEAD(windows);

	pci_add_resource(&windows, &gpu->vram_res);
	pci_add_resource(&windows, &gpu->regs_res);
	pci_add_resource(&windows, &gpu->busn_res);

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

static struct resource window(u64 start, u64 size, const char *name)
{
	return DEFINE_RES_NAMED(start, size, name, IORESOURCE_MEM |
				IORESOURCE_MEM_64 | IORESOURCE_PREFETCH);
}

static u64 regs_span(const struct simgpu_model *model)
{
	return (u64)SIMGPU_REGS_SIZE * (1 + model->total_vfs);
}

static unsigned int nth_of_driver(enum simgpu_driver which)
{
	struct simgpu *gpu;
	unsigned int nth = 0;

	list_for_each_entry(gpu, &gpu_list, node)
		nth += gpu->model->driver == which;
	return nth;
}

static struct simgpu *alloc_gpu(const struct simgpu_model *model, int busnr,
				int numa_node, u64 vram, u64 regs)
{
	unsigned int nr_functions = 1 + model->total_vfs;
	struct simgpu *gpu;

	gpu = kvzalloc(struct_size(gpu, functions, nr_functions), GFP_KERNEL);
	if (!gpu)
		return NULL;
	gpu->model = model;
	gpu->busnr = busnr;
	gpu->nr_functions = nr_functions;
	gpu->nth = nth_of_driver(model->driver);
	gpu->knobs.flr = model->flr;
	gpu->sysdata.domain = SIMGPU_DOMAIN;
	gpu->sysdata.node = numa_node;
	gpu->vram_res = window(vram, simgpu_model_span(model), "simgpu VRAM");
	gpu->regs_res = window(regs, regs_span(model), "simgpu registers");
	gpu->busn_res = DEFINE_RES_NAMED(busnr, 1, "simgpu", IORESOURCE_BUS);
	raw_spin_lock_init(&gpu->lock);
	mutex_init(&gpu->vf_lock);
	simgpu_config_init(gpu);
	for (unsigned int i = 0; i < nr_functions; i++)
		simgpu_func_init(gpu, i);
	return gpu;
}

static int add_gpu(struct simgpu *gpu)
{
	int ret;

	ret = claim_ram(&gpu->vram_res, &gpu->vram);
	if (ret)
		return ret;
	ret = claim_ram(&gpu->regs_res, &gpu->regs);
	if (ret)
		goto err_vram;
	for (unsigned int i = 0; i < gpu->nr_functions; i++)
		simgpu_regs_reset(&gpu->functions[i]);
	ret = add_bus(gpu);
	if (ret)
		goto err_regs;

	simgpu_knobs_add(gpu);
	list_add_tail(&gpu->node, &gpu_list);
	return 0;

err_regs:
	release_ram(&gpu->regs_res, gpu->regs);
err_vram:
	release_ram(&gpu->vram_res, gpu->vram);
	return ret;
}

/* Waits for VFIO users of the GPU's functions. */
static void remove_gpu(struct simgpu *gpu)
{
	struct pci_dev *pf;

	list_del(&gpu->node);
	simgpu_knobs_remove(gpu);
	for (unsigned int i = 0; i < gpu->nr_functions; i++)
		cancel_work_sync(&gpu->functions[i].unplug_work);

	pf = simgpu_get_pci_dev(&gpu->functions[0]);
	if (pf) {
		simgpu_release_driver(pf);
		pci_dev_put(pf);
	}
	pci_lock_rescan_remove();
	pci_stop_root_bus(gpu->bus);
	pci_remove_root_bus(gpu->bus);
	pci_unlock_rescan_remove();

	/* The last config cycle is over, so no reset can be started any more. */
	for (unsigned int i = 0; i < gpu->nr_functions; i++) {
		cancel_delayed_work_sync(&gpu->functions[i].reset_work);
		cancel_delayed_work_sync(&gpu->functions[i].late_work);
	}
	release_ram(&gpu->regs_res, gpu->regs);
	release_ram(&gpu->vram_res, gpu->vram);
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

/* VRAM is taken from the bottom of the span, registers from its top. */
static int add_gpus(void)
{
	u64 bottom = base;
	u64 top = (u64)base + span;

	for (unsigned int i = 0; i < max(nr_gpus, 1U); i++) {
		const struct simgpu_model *model = simgpu_model_find(gpus[i]);
		int busnr = FIRST_BUS + i;
		struct simgpu *gpu;
		u64 vram;
		int ret;

		if (!model) {
			pr_err("no model \"%s\"\n", gpus[i]);
			return -EINVAL;
		}
		if (pci_find_bus(SIMGPU_DOMAIN, busnr)) {
			pr_err("PCI bus %02x is taken\n", busnr);
			return -EBUSY;
		}
		/* A BAR is aligned to its size, and none is larger than this. */
		vram = ALIGN(bottom, model->vram_size);
		bottom = vram + simgpu_model_span(model);
		top = ALIGN_DOWN(top - regs_span(model), SIMGPU_REGS_SIZE);
		if (bottom > top) {
			pr_err("span=0x%lx is too small for GPU %u, a %s\n",
			       span, i, model->name);
			return -ENOSPC;
		}

		gpu = alloc_gpu(model, busnr, numa_node_of(i), vram, top);
		if (!gpu)
			return -ENOMEM;
		ret = add_gpu(gpu);
		if (ret) {
			kvfree(gpu);
			return ret;
		}
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
		ret = simgpu_drivers_register();
	if (ret) {
		remove_gpus();
		simgpu_knobs_exit();
		destroy_workqueue(simgpu_wq);
	}
	return ret;
}

static void __exit simgpu_exit(void)
{
	simgpu_drivers_unregister();
	remove_gpus();
	simgpu_knobs_exit();
	destroy_workqueue(simgpu_wq);
}

module_init(simgpu_init);
module_exit(simgpu_exit);
MODULE_DESCRIPTION("Simulated SR-IOV GPUs");
MODULE_LICENSE("GPL");
