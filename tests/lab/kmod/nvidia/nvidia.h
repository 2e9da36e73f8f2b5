/* SPDX-License-Identifier: GPL-2.0 */
/*
 * nvidia: a driver that behaves like NVIDIA's vGPU host driver, with
 * vendor-specific VFIO or with mediated devices, for simulated GPUs.
 * README.md, "Quirks", says what it does and after which source.
 */
#ifndef NVIDIA_H
#define NVIDIA_H

#include <linux/bitmap.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/types.h>
#include "../simgpu.h"

#define NV_MAX_GB	128
#define NV_MAX_GIS	7
#define NV_MIG_SLICES	8
#define NV_PARAMS_SIZE	256

/* What a time-sliced type has instead of a MIG profile. */
#define NV_TIME_SLICED	0xff
/* What gpu_instance_id reads for such a vGPU: NVML's invalid id. */
#define NV_NO_GPU_INSTANCE	U32_MAX

/**
 * struct nv_type - a vGPU type of a card
 * @id:		its number, which depends on the card
 * @name:	as the driver prints it
 * @gb:		framebuffer, in the real card's GB
 * @profile:	id of the MIG profile that backs it, or NV_TIME_SLICED
 */
struct nv_type {
	u16 id;
	const char *name;
	u8 gb;
	u8 profile;
};

/**
 * struct nv_profile - a kind of MIG GPU instance
 * @id:		number for nvidia-smi mig -cgi
 * @name:	as nvidia-smi prints it, without "MIG "
 * @slices:	memory slices that an instance takes, of NV_MIG_SLICES
 * @starts:	bit n: an instance may start at slice n
 * @max:	instances of a card
 * @first_id:	id of an instance at slice 0; one more every @slices slices
 * @gib:	its memory, as nvidia-smi prints it
 * @engines:	SM, DEC, CE, JPEG and OFA of an instance
 */
struct nv_profile {
	u8 id;
	const char *name;
	u8 slices;
	u8 starts;
	u8 max;
	u8 first_id;
	const char *gib;
	u8 engines[5];
};

/* What the driver knows of a model. */
struct nv_board {
	const char *model;
	const char *product;
	u32 memory_mib;			/* as nvidia-smi prints it */
	u8 gb;				/* what the types share */
	const struct nv_type *types;
	unsigned int nr_types;
	const struct nv_profile *profiles;	/* none: no MIG */
	unsigned int nr_profiles;
};

struct nv_card;
struct nv_parent;

/* A MIG GPU instance; not there while it has no profile. */
struct nv_gi {
	const struct nv_profile *profile;
	unsigned int start;
	bool compute;			/* has its compute instance */
};

/* A VF, there or not. */
struct nv_vf {
	struct nv_card *card;
	const struct nv_type *type;	/* NULL: no vGPU */
	const struct nv_gi *gi;		/* what backs a vGPU of a MIG type */
	unsigned int placement;		/* where a time-sliced one begins, in GB */
	bool vfio;			/* VFIO offers it, or its vGPU */
	bool files;			/* its directory "nvidia" is there */
	struct nv_parent *parent;	/* while it is one of mediated devices */
	bool open;
	char params[NV_PARAMS_SIZE];
};

/* Words of the knob "sriov_manage", for the stand-in of that tool. */
enum nv_sriov_manage {
	NV_SRIOV_MANAGE_WORK,
	NV_SRIOV_MANAGE_LIE,		/* exits with 0 and makes no VFs */
	NV_SRIOV_MANAGE_STRAND,		/* leaves the PF on pci-pf-stub */
};

/* Words of the knob "nvidia_smi", for the stand-in of that tool. */
enum nv_nvidia_smi {
	NV_NVIDIA_SMI_WORK,
	NV_NVIDIA_SMI_LIE,		/* says that it changed MIG */
	NV_NVIDIA_SMI_HANG,
	NV_NVIDIA_SMI_NEW,		/* lists instances as no other does */
};

/* Words of the knob "type_order". */
enum nv_type_order {
	NV_ID_FIRST,
	NV_NAME_FIRST,
};

/* Words of the knob "framework": what VFs are, from when they are bound. */
enum nv_framework {
	NV_VENDOR_VFIO,
	NV_MEDIATED,
};

struct nv_knobs {
	enum nv_framework framework;
	u32 clients;
	u32 refuse_type;
	u32 held_errno;
	enum nv_type_order type_order;
	enum nv_sriov_manage sriov_manage;
	enum nv_nvidia_smi nvidia_smi;
};

/* A GPU, from the first time that its PF is seen until the module goes. */
struct nv_card {
	struct list_head node;
	struct simgpu *gpu;
	const struct nv_board *board;
	struct nv_knobs knobs;
	struct dentry *debugfs;
	struct proc_dir_entry *proc;

	struct mutex lock;		/* guards what follows */
	struct pci_dev *pf;		/* while its PF is ours */
	bool unbind_lock;
	bool heterogeneous;
	bool mig;
	struct nv_gi gis[NV_MAX_GIS];
	const struct nv_gi *made;	/* the last one, for nvidia-smi */
	struct nv_parent *parent;	/* while its PF is one of mediated devices */
	/* VFs; without SR-IOV, places for vGPUs of the PF */
	unsigned int nr_vfs;
	struct nv_vf vfs[] __counted_by(nr_vfs);
};

/* board.c */
const struct nv_board *nv_board_find(const char *model);

/* card.c */
struct nv_card *nv_card_get(struct simgpu *gpu);
struct nv_card *nv_card_make(struct simgpu *gpu);
void nv_card_bind(struct nv_card *card, struct pci_dev *pf);
void nv_card_unbind(struct nv_card *card);
bool nv_card_has_vgpus(const struct nv_card *card);
void nv_cards_free(void);

/* vgpu.c; card->lock is held but for nv_vgpu_write() */
void nv_vgpu_drop(struct nv_vf *vf);
bool nv_vgpu_creatable(const struct nv_vf *vf, const struct nv_type *type);
int nv_vgpu_set(struct nv_vf *vf, unsigned int id);
int nv_vgpu_write(struct nv_vf *vf, unsigned int id);

/* mdev.c */
struct nv_parent *nv_mdev_add(struct nv_card *card, struct nv_vf *vf,
			      struct pci_dev *pdev);
void nv_mdev_remove(struct nv_parent *parent);
int nv_mdev_init(void);
void nv_mdev_exit(void);

/* mig.c; card->lock is held */
unsigned int nv_gi_id(const struct nv_gi *gi);
const struct nv_gi *nv_mig_unused(const struct nv_card *card, u8 profile);
unsigned int nv_mig_room(const struct nv_card *card,
			 const struct nv_profile *profile);
int nv_mig_set_mode(struct nv_card *card, unsigned int on);
int nv_mig_create(struct nv_card *card, unsigned int profile, int start);
int nv_mig_destroy(struct nv_card *card, unsigned int id);
int nv_mig_create_compute(struct nv_card *card, unsigned int id);
int nv_mig_destroy_compute(struct nv_card *card, unsigned int id);
void nv_mig_wipe(struct nv_card *card);

/* vf.c */
struct nv_vf *nv_vf_of(struct pci_dev *pdev);
int nv_vf_probe(struct pci_dev *pdev);
void nv_vf_remove(struct pci_dev *pdev);

/* proc.c */
int nv_proc_init(void);
void nv_proc_exit(void);
int nv_proc_add(struct nv_card *card);
void nv_proc_remove(struct nv_card *card);

/* smi.c */
extern const struct file_operations nv_smi_fops;
void nv_uuid(const struct nv_card *card, char *buf, size_t size);

/* knobs.c */
void nv_knobs_add(struct nv_card *card);
void nv_knobs_remove(struct nv_card *card);

/* vfio.c, which is nvidia_vgpu_vfio.ko */
struct nv_vfio_ops {
	int (*open)(struct nv_vf *vf);
	void (*close)(struct nv_vf *vf);
};

int nv_vfio_add(struct pci_dev *pdev, const struct nv_vfio_ops *ops,
		struct nv_vf *vf);
void nv_vfio_remove(struct pci_dev *pdev);

#endif /* NVIDIA_H */
