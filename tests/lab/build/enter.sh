#!/bin/sh -e
# Runs a build script inside the lab's Debian root, in mount and PID namespaces of its own (the
# caller makes them), so that the root stays as it was and nothing is left mounted.
#   enter.sh ROOT SCRIPT [HOST-FOLDER=NAME ...]     each folder appears as /mnt/NAME
root=$1 script=$2
shift 2
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/mnt"
for bind; do
  mkdir "$root/mnt/${bind##*=}"
  mount --bind "${bind%=*}" "$root/mnt/${bind##*=}"
done
cp "$script" "$root/mnt/build.sh"
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp
cd /
exec chroot "$root" /bin/bash -eu -o pipefail /mnt/build.sh
