#!/bin/sh
# Stands in for QEMU and for the guest in it: does what the guest's command says.
while [ $# -gt 0 ]; do
    case $1 in
    -append) line=$2 ;;
    -device) device=$2 ;;
    esac
    shift
done
# shellcheck disable=SC2086 # words of the command
set -- ${line#* -- }
case $1 in
poweroff) echo "the guest has $device" ;;
exit) exit $(($2 * 2 + 1)) ;;
fail)
    echo "qemu-system-x86_64: -device $device: vfio 0000:41:00.2: group 32 is not viable" >&2
    exit 1
    ;;
panic) echo "[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs" ;;
die) kill -9 $$ ;;
stay) echo up && exec /bin/sleep 600 ;;
chatter) while echo "and another thing"; do :; done ;;
esac
