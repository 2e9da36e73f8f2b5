# Builds the project's kernel modules (/mnt/src) against both flavours of VFIO and indexes a module
# tree for each:
#   /mnt/out/FLAVOUR/updates/*.ko   what the flavour adds (modprobe prefers updates/)
#   /mnt/out/FLAVOUR/modules.*      the index of Debian's tree with these
# The host lays such a folder over Debian's own tree (host/init).
kernel=$(ls /boot | sed -n 's/^vmlinuz-\(.*[0-9]-amd64\)$/\1/p')
modules=/usr/lib/modules/$kernel

# Both flavours at once; depmod reads all of Debian's modules and takes as long as the compiler.
flavour() { # flavour NAME MAKE-ARGUMENTS...
  local flavour=$1 base tree
  shift
  mkdir -p "/mnt/out/$flavour/updates"
  cp -r /mnt/src "/tmp/$flavour"
  make -s -j2 -C "/usr/src/linux-headers-$kernel" M="/tmp/$flavour" "$@" modules
  find "/tmp/$flavour" -name '*.ko' -exec cp -t "/mnt/out/$flavour/updates" {} +
  [ "$flavour" != cdev ] || cp /mnt/vfio/*.ko /mnt/out/cdev/updates/

  # depmod wants one whole tree: Debian's, by links, with the flavour's modules.
  base=/tmp/tree-$flavour tree=/tmp/tree-$flavour/lib/modules/$kernel
  mkdir -p "$tree"
  ln -s "$modules/kernel" "$modules"/modules.{order,builtin,builtin.modinfo} "$tree/"
  ln -s "/mnt/out/$flavour/updates" "$tree/updates"
  depmod -b "$base" "$kernel"
  find "$tree" -maxdepth 1 -type f -name 'modules.*' -exec cp -t "/mnt/out/$flavour" {} +
  grep -q '^updates/' "/mnt/out/$flavour/modules.dep" || { echo "depmod found nothing in updates/ of $flavour"; exit 1; }
}

flavour debian &
debian=$!
flavour cdev KCFLAGS="$(cat /mnt/vfio/kcflags)" KBUILD_EXTRA_SYMBOLS=/mnt/vfio/Module.symvers
wait $debian
