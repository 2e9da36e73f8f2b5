# Makes the host's disk /mnt/out/disk.img from the Debian root (/mnt/root), without what is only
# needed to build. No journal: every host writes to a throw-away snapshot of it.
cd /mnt/root
for folder in boot usr/src usr/include usr/lib/gcc usr/libexec/gcc usr/lib/linux-kbuild-* \
  usr/share/{doc,man,locale,info,perl,gcc} var/cache/apt var/lib/apt/lists; do
  [ ! -d "$folder" ] || mount -t tmpfs tmpfs "$folder"
done
# Twice the content leaves room for what jobs write.
size=$(($(du -sxm --exclude=./proc . | cut -f1) * 2 + 512))
mke2fs -q -F -t ext4 -O ^has_journal -E lazy_itable_init=1 -m 0 -d . /mnt/out/disk.img "${size}M"
