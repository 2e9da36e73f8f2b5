# Builds iommufd and VFIO with device nodes (/dev/iommu, /dev/vfio/devices) as modules into /mnt/out.
#
# Debian builds its kernels without CONFIG_IOMMUFD, so VFIO has only group nodes there. Everything
# comes from Debian's source package of the very same kernel. The interval tree's span iterator is
# not in that kernel either, so it is linked into iommufd.
kernel=$(ls /boot | sed -n 's/^vmlinuz-\(.*[0-9]-amd64\)$/\1/p')
mkdir /tmp/linux && cd /tmp/linux
tar -xJf /usr/src/linux-source-6.12.tar.xz --strip-components=1 \
  linux-source-6.12/drivers/iommu/{iommufd,iommu-priv.h} linux-source-6.12/drivers/vfio linux-source-6.12/lib/interval_tree.c
iommufd=$PWD/drivers/iommu/iommufd vfio=$PWD/drivers/vfio
sed -i 's/^\tvfio_compat.o/\tvfio_compat.o span.o/' "$iommufd/Makefile"
{
  echo '#include <linux/interval_tree.h>'
  sed -n '/ifdef CONFIG_INTERVAL_TREE_SPAN_ITER/,$p' lib/interval_tree.c | grep -v '^EXPORT'
} > "$iommufd/span.c"

flags='-DCONFIG_IOMMUFD_MODULE=1 -DCONFIG_VFIO_DEVICE_CDEV=1 -DCONFIG_INTERVAL_TREE_SPAN_ITER=1'
build() { make -s -j"$(nproc)" -C "/usr/src/linux-headers-$kernel" KCFLAGS="$flags" "$@" modules; }
build M="$iommufd" CONFIG_IOMMUFD=m
# Only what a simulated GPU can meet: the vendors' variant drivers and platform devices stay out.
build M="$vfio" CONFIG_IOMMUFD=m CONFIG_VFIO_DEVICE_CDEV=y CONFIG_VFIO_PLATFORM_BASE= \
  CONFIG_MLX5_VFIO_PCI= CONFIG_PDS_VFIO_PCI= CONFIG_VIRTIO_VFIO_PCI= CONFIG_QAT_VFIO_PCI= \
  CONFIG_NVGRACE_GPU_VFIO_PCI= KBUILD_EXTRA_SYMBOLS="$iommufd/Module.symvers"

# What the project's modules need to be built against these.
echo "$flags" > /mnt/out/kcflags
cat "$iommufd/Module.symvers" "$vfio/Module.symvers" > /mnt/out/Module.symvers
find "$iommufd" "$vfio" -name '*.ko' -exec cp -t /mnt/out {} +
