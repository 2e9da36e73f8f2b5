# Makes what changes often, all small: the disk that the host sees as /lab, and its initrds.
#   /mnt/lab      the lab's own files          /mnt/modules   both flavours' modules (kmod.sh)
#   /mnt/acpi     the DMAR table               /mnt/out       layer.img, initrd, initrd-iommu, vmlinuz, vm-*
kernel=$(ls /boot | sed -n 's/^vmlinuz-\(.*[0-9]-amd64\)$/\1/p')
cloud=$(ls /boot | sed -n 's/^vmlinuz-\(.*-cloud-amd64\)$/\1/p')
archive() { (cd "$1" && find . | cpio -o -H newc --quiet -R 0:0); }

# Micro-VM: kernel, and an initrd of busybox and the tool. Not compressed: unpacking costs more than
# reading under software emulation.
vm=/tmp/vm
mkdir -p $vm/{bin,proc,sys,dev}
cp /usr/bin/busybox $vm/bin/
for applet in sh cat ls echo grep head hexdump mount sleep poweroff uname dmesg; do ln -s busybox "$vm/bin/$applet"; done
gcc -static -O2 -Wall -Wextra -Werror -s -o $vm/bin/gpu /mnt/lab/vm/gpu.c
install -m 755 /mnt/lab/vm/init $vm/init

layer=/tmp/layer
mkdir -p $layer/vm $layer/modules
archive $vm > $layer/vm/initrd
cp "/boot/vmlinuz-$cloud" $layer/vm/vmlinuz
install -m 755 /mnt/lab/host/init /mnt/lab/host/agent $layer/
cp -r /mnt/lab/host/nvidia $layer/
cp -r /mnt/modules/. $layer/modules/
size=$(($(du -sm $layer | cut -f1) * 5 / 4 + 8))
mke2fs -q -F -t ext4 -O ^has_journal -m 0 -d $layer /mnt/out/layer.img "${size}M"

# Host: kernel, and an initrd with the drivers of its disks. The table comes first and uncompressed:
# the kernel reads it before it unpacks anything (CONFIG_ACPI_TABLE_UPGRADE).
initrd=/tmp/initrd
mkdir -p $initrd/{bin,proc,dev,root,modules}
cp /usr/bin/busybox $initrd/bin/
install -m 755 /mnt/lab/host/initrd-init $initrd/init
number=10
for module in $(modprobe -a -S "$kernel" --show-depends virtio_blk ext4 crc32c_generic | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'); do
  xz -dc "$module" > "$initrd/modules/$number.ko"
  number=$((number + 1))
done
archive $initrd > /mnt/out/initrd
{ archive /mnt/acpi; cat /mnt/out/initrd; } > /mnt/out/initrd-iommu
cp "/boot/vmlinuz-$kernel" /mnt/out/vmlinuz
# For the probe whether KVM can nest (accelerator.rs).
cp $layer/vm/initrd /mnt/out/vm-initrd
cp $layer/vm/vmlinuz /mnt/out/vm-vmlinuz
