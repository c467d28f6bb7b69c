#!/busybox sh
# First stage of a guest: loads the modules, mounts the root image, unpacks the job from the second disk, goes on there.
busybox=/busybox
fail() { $busybox echo "guest: $1"; $busybox poweroff -f; }

$busybox mount -t devtmpfs dev /dev || fail "no devtmpfs"
for module in /modules/*.ko; do
	$busybox insmod "$module" || $busybox echo "guest: cannot load $module"
done
tries=0
until [ -b /dev/vda ] && [ -b /dev/vdb ] && [ -c "$(echo /dev/vport*p4)" ]; do
	tries=$((tries + 1))
	[ $tries -lt 200 ] || fail "its disks or ports did not appear"
	$busybox usleep 10000
done
$busybox mount -t ext4 -o rw,noatime /dev/vda /root || fail "cannot mount the root image"
$busybox mount --move /dev /root/dev
$busybox mount -t tmpfs -o mode=755 run /root/run
$busybox mount -t tmpfs -o mode=1777 tmp /root/tmp
cd /root || fail "no root"
$busybox cpio -idu </root/dev/vdb || fail "cannot unpack the job"
$busybox mv /modules /root/run/mooring/modules
exec $busybox switch_root /root /run/mooring/init
