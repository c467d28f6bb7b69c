#!/usr/bin/busybox sh
# Second stage of a guest, its process 1: makes the place that a container node has, runs one command, tells how it ended.
# Ports of the virtio console: 1 is told how things stand, 2 and 3 carry the command's output, 4 a tar of /out.
# One static program does it all: in an emulated processor every other one costs a tenth of a second.
box=/usr/bin/busybox
job=/run/mooring
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8

# The device's number depends on what else the kernel found.
port=$(echo /dev/vport*p1)
port=${port%1}
exec 9>"${port}1"
# What init itself has to say belongs on the console.
exec >/dev/console 2>&1 </dev/null

$box mount -t proc -o nosuid,nodev,noexec proc /proc
$box mount -t sysfs -o nosuid,nodev,noexec sys /sys
$box mkdir -p /dev/pts /dev/shm
$box mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
$box mount -t tmpfs -o nosuid,nodev shm /dev/shm
$box ln -sf /proc/self/fd /dev/fd
$box ln -sf fd/0 /dev/stdin
$box ln -sf fd/1 /dev/stdout
$box ln -sf fd/2 /dev/stderr
$box mount -t securityfs securityfs /sys/kernel/security
$box mount -t bpf bpf /sys/fs/bpf
$box mount -t tracefs tracefs /sys/kernel/tracing
$box mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 /sys/fs/cgroup
$box mount --make-rshared /

# Controllers can be handed down only from a cgroup without processes.
$box mkdir /sys/fs/cgroup/init
echo $$ >/sys/fs/cgroup/init/cgroup.procs
read -r controllers </sys/fs/cgroup/cgroup.controllers
for controller in $controllers; do
	echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done
$box hostname mooring
$box ip link set lo up

cd /root || exit
. $job/environment

echo started >&9
if [ -e $job/shell ]; then
	read -r rows columns <$job/shell
	# The size belongs to the open terminal: it has to be told from within.
	/usr/bin/setsid --ctty --wait $box sh -c "$box stty rows $rows cols $columns; exec /usr/bin/bash $job/command" \
		<>/dev/ttyS0 >&0 2>&1 9>&-
	echo "exit $?" >&9
	$box poweroff -f
fi

if [ -e $job/systemd ]; then
	$box mkdir -p /run/systemd/system
	printf '[Unit]\nDefaultDependencies=no\nWants=job.service\n' >/run/systemd/system/default.target
	$box cat >/run/systemd/system/job.service <<-UNIT
		[Unit]
		DefaultDependencies=no
		[Service]
		ExecStart=/usr/bin/bash -c '. $job/environment && . $job/command'
		Environment=PATH=$PATH HOME=$HOME LC_ALL=$LC_ALL
		WorkingDirectory=/root
		StandardOutput=file:${port}2
		StandardError=file:${port}3
		Delegate=yes
		TasksMax=infinity
		LimitNOFILE=infinity
	UNIT
	# The cgroup that it begins in is the root to it.
	echo $$ >/sys/fs/cgroup/cgroup.procs && $box rmdir /sys/fs/cgroup/init
	exec /usr/lib/systemd/systemd 9>&-
fi

# A port can be open only once: behind a pipe the command may open its /dev/stdout again.
$box mkfifo $job/stdout $job/stderr
$box cat <$job/stdout >"${port}2" 9>&- &
out=$!
$box cat <$job/stderr >"${port}3" 9>&- &
err=$!
# busybox's own shell would run its own applets where the command names a program.
/usr/bin/bash $job/command >$job/stdout 2>$job/stderr 9>&-
code=$?

# Waits until both have passed on everything, at most the given number of fiftieths of a second.
settle() {
	left=$1
	while [ -e /proc/$out/exe ] || [ -e /proc/$err/exe ]; do
		[ "$left" -gt 0 ] || return 1
		left=$((left - 1))
		$box usleep 20000
	done
}
# What the command left running holds its output open.
if ! settle 5; then
	for path in /proc/[0-9]*; do
		pid=${path#/proc/}
		case $pid in 1 | "$out" | "$err") continue ;; esac
		# Kernel threads have no program.
		! $box readlink "$path/exe" >/dev/null || kill -KILL "$pid"
	done
	settle 250
fi
[ ! -e $job/out ] || $box tar -C /out -cf - . >"${port}4"
echo "exit $code" >&9
# The host ends the guest now.
$box sleep 10
$box poweroff -f
