// SPDX-License-Identifier: Apache-2.0
/*
 * gpu: what a tenant of the lab does with its slice, inside the micro-VM. Commands run in the order
 * given, each on every GPU of the VM (a PCI function of a display or processing accelerator class):
 *
 *   list          one line a GPU: address, vendor:device, class, bytes of VRAM
 *   read          the first printable text in VRAM, and how many of its pages are not zero
 *   write TEXT    fills every page of VRAM with TEXT and reads it back
 *   check TEXT    fails unless every page of VRAM holds TEXT
 *   hold SECONDS  says so and keeps the VM up
 *   exit CODE     ends the VM through QEMU's isa-debug-exit (iobase 0x501), if it has one
 *
 * VRAM is the device's largest memory BAR. The exit code is 0, 1 when a check failed, 2 on an error.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <termios.h>
#include <unistd.h>

#define PCI "/sys/bus/pci/devices"
#define PAGE 4096
#define MAX_GPUS 32
#define MAX_TEXT 256
#define BARS 6
#define RESOURCE_MEM 0x200
#define CLASS_DISPLAY 0x03
#define CLASS_ACCELERATOR 0x12
#define EXIT_PORT 0x501

struct gpu {
	char address[NAME_MAX + 1];
	unsigned vendor, device, class;
	int bar;		/* number of the BAR that is VRAM, -1 without one */
	size_t size;		/* bytes */
	unsigned char *vram;	/* NULL until needed */
};

static struct gpu gpus[MAX_GPUS];
static int count;

static void die(const char *what)
{
	printf("gpu: error: %s: %s\n", what, strerror(errno));
	exit(2);
}

static unsigned read_hex(const char *address, const char *attribute)
{
	char path[PATH_MAX];
	unsigned value = 0;

	snprintf(path, sizeof(path), PCI "/%s/%s", address, attribute);
	FILE *file = fopen(path, "r");
	if (!file || fscanf(file, "%x", &value) != 1)
		die(path);
	fclose(file);
	return value;
}

/* The resource file has a line a BAR: first address, last address, flags. */
static void find_vram(struct gpu *gpu)
{
	char path[PATH_MAX];

	gpu->bar = -1;
	snprintf(path, sizeof(path), PCI "/%s/resource", gpu->address);
	FILE *file = fopen(path, "r");
	if (!file)
		die(path);
	for (int bar = 0; bar < BARS; bar++) {
		unsigned long long first, last, flags;

		if (fscanf(file, "%llx %llx %llx", &first, &last, &flags) != 3)
			break;
		if ((flags & RESOURCE_MEM) && last - first + 1 > gpu->size) {
			gpu->bar = bar;
			gpu->size = last - first + 1;
		}
	}
	fclose(file);
}

static int by_address(const void *a, const void *b)
{
	return strcmp(((const struct gpu *)a)->address, ((const struct gpu *)b)->address);
}

static void find_gpus(void)
{
	DIR *folder = opendir(PCI);
	struct dirent *entry;

	/* A kernel without any PCI device has no such folder: no GPU, no error. */
	while (folder && (entry = readdir(folder)) && count < MAX_GPUS) {
		if (entry->d_name[0] == '.')
			continue;
		struct gpu *gpu = &gpus[count];
		memset(gpu, 0, sizeof(*gpu));
		memcpy(gpu->address, entry->d_name, sizeof(gpu->address));
		gpu->address[NAME_MAX] = 0;
		gpu->class = read_hex(gpu->address, "class");
		if (gpu->class >> 16 != CLASS_DISPLAY && gpu->class >> 16 != CLASS_ACCELERATOR)
			continue;
		gpu->vendor = read_hex(gpu->address, "vendor");
		gpu->device = read_hex(gpu->address, "device");
		find_vram(gpu);
		count++;
	}
	if (folder)
		closedir(folder);
	qsort(gpus, count, sizeof(gpus[0]), by_address);
}

static void map_vram(struct gpu *gpu)
{
	char path[PATH_MAX];

	if (gpu->vram)
		return;
	if (gpu->bar < 0) {
		printf("gpu: error: %s has no memory BAR\n", gpu->address);
		exit(2);
	}
	snprintf(path, sizeof(path), PCI "/%s/enable", gpu->address);
	int fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, "1", 1) != 1)
		die(path);
	close(fd);
	/* Write-combined where the BAR is prefetchable: far faster than uncached. */
	snprintf(path, sizeof(path), PCI "/%s/resource%d_wc", gpu->address, gpu->bar);
	fd = open(path, O_RDWR);
	if (fd < 0) {
		*strrchr(path, '_') = 0;
		fd = open(path, O_RDWR);
	}
	if (fd < 0)
		die(path);
	gpu->vram = mmap(NULL, gpu->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (gpu->vram == MAP_FAILED)
		die(path);
	close(fd);
}

static void list(const struct gpu *gpu)
{
	printf("gpu: %s %04x:%04x class %06x vram %zu\n", gpu->address, gpu->vendor, gpu->device,
	       gpu->class, gpu->size);
}

static int is_zero(const unsigned char *page)
{
	return page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0;
}

static void read_vram(struct gpu *gpu)
{
	unsigned char page[PAGE];
	char text[MAX_TEXT + 1] = "";
	size_t used = 0;

	map_vram(gpu);
	for (size_t at = 0; at < gpu->size; at += PAGE) {
		memcpy(page, gpu->vram + at, PAGE);
		if (is_zero(page))
			continue;
		used++;
		for (size_t i = 0; !text[0] && i < PAGE; i++)
			for (size_t n = 0; i + n < PAGE && n < MAX_TEXT && isprint(page[i + n]); n++)
				text[n] = page[i + n];
	}
	printf("gpu: %s nonzero %zu of %zu pages, text %s\n", gpu->address, used, gpu->size / PAGE,
	       text[0] ? text : "(none)");
}

/* A page full of the text, each copy followed by a zero byte. */
static void fill(unsigned char *page, const char *text)
{
	size_t length = strlen(text) + 1;

	if (length < 2 || length > MAX_TEXT) {
		printf("gpu: error: the text must have 1 to %d bytes\n", MAX_TEXT - 1);
		exit(2);
	}
	for (size_t i = 0; i < PAGE; i++)
		page[i] = text[i % length];
}

static int check(struct gpu *gpu, const char *text, const char *verb)
{
	unsigned char want[PAGE];
	size_t wrong = 0;

	fill(want, text);
	map_vram(gpu);
	for (size_t at = 0; at < gpu->size; at += PAGE)
		wrong += memcmp(gpu->vram + at, want, PAGE) != 0;
	printf("gpu: %s %s %s: %zu of %zu pages differ\n", gpu->address, verb, text, wrong,
	       gpu->size / PAGE);
	return wrong != 0;
}

static int write_vram(struct gpu *gpu, const char *text)
{
	unsigned char page[PAGE];

	fill(page, text);
	map_vram(gpu);
	for (size_t at = 0; at < gpu->size; at += PAGE)
		memcpy(gpu->vram + at, page, PAGE);
	return check(gpu, text, "wrote");
}

static void leave(int code)
{
	tcdrain(STDOUT_FILENO);
	if (ioperm(EXIT_PORT, 1, 1) == 0)
		outb(code, EXIT_PORT);
}

int main(int argc, char **argv)
{
	int failed = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	find_gpus();
	for (int i = 1; i < argc; i++) {
		const char *command = argv[i];
		int takes_text = !strcmp(command, "write") || !strcmp(command, "check");
		int takes_number = !strcmp(command, "hold") || !strcmp(command, "exit");
		const char *value = takes_text || takes_number ? argv[++i] : "";

		if (!value) {
			printf("gpu: error: %s needs a value\n", command);
			return 2;
		}
		if (!strcmp(command, "hold")) {
			printf("gpu: holding for %s s\n", value);
			sleep(atoi(value));
		} else if (!strcmp(command, "exit"))
			leave(atoi(value));
		else if (!takes_text && strcmp(command, "list") && strcmp(command, "read")) {
			printf("gpu: error: no such command: %s\n", command);
			return 2;
		}
		for (int g = 0; g < count && !takes_number; g++) {
			if (!strcmp(command, "list"))
				list(&gpus[g]);
			else if (!strcmp(command, "read"))
				read_vram(&gpus[g]);
			else if (!strcmp(command, "write"))
				failed |= write_vram(&gpus[g], value);
			else
				failed |= check(&gpus[g], value, "holds");
		}
	}
	tcdrain(STDOUT_FILENO);
	return failed;
}
