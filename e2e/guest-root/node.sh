#!/usr/bin/bash
# What makes a guest a node of a cluster: modules, network, containerd, kubelet. Runs until the guest is ended.
# Standard output is the kubelet's log, standard error containerd's. In the environment: NODE, KUBELET_PORT, API_PORT, POD_SUBNET, CGROUP_DRIVER.
box=/usr/bin/busybox
$box hostname "$NODE"
echo "127.0.0.1 localhost $NODE" >/etc/hosts
# An id per node, which the kubelet reports.
sha256sum <<<"$NODE" | $box cut -c 1-32 >/etc/machine-id

for module in /run/mooring/node-modules/*.ko; do
	$box insmod "$module" || echo "node: cannot load $module" >&2
done
$box ip link set eth0 up
$box ip address add 10.0.2.15/24 dev eth0
# No way out but to the host. Of the services only the API server is there; the cluster's DNS, like others, refuses at once.
$box ip route add 10.96.0.0/16 via 10.0.2.2
echo 1 >/proc/sys/net/ipv4/ip_forward
nft -f - <<RULES
table ip mooring {
	chain before { type nat hook prerouting priority dstnat; ip daddr 10.96.0.1 tcp dport 443 dnat to 10.0.2.2:$API_PORT; }
	chain out { type nat hook output priority -100; ip daddr 10.96.0.1 tcp dport 443 dnat to 10.0.2.2:$API_PORT; }
	chain after { type nat hook postrouting priority srcnat; ip saddr $POD_SUBNET oifname "eth0" masquerade; }
	chain forward { type filter hook forward priority filter; ip daddr 10.96.0.0/16 reject; }
	chain own { type filter hook output priority filter; ip daddr 10.96.0.0/16 reject; }
}
RULES

# Programs, images, and all that is written below /var/lib are on a disk of their own.
mkdir -p /node && $box mount -t ext4 -o rw,noatime /dev/vdc /node
$box mount --bind /node/lib /var/lib
$box mount --make-rshared /

mkdir -p /etc/containerd /etc/cni/net.d /etc/kubernetes/manifests /var/log/pods
cat >/etc/containerd/config.toml <<CONFIG
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.10"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/node/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = $([ "$CGROUP_DRIVER" = systemd ] && echo true || echo false)
CONFIG
cat >/etc/cni/net.d/10-bridge.conflist <<CONFIG
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$POD_SUBNET"}]], "routes": [{"dst": "0.0.0.0/0"}]}}
]}
CONFIG
cat >/etc/kubernetes/kubelet.yaml <<CONFIG
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
port: $KUBELET_PORT
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: /etc/kubernetes/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: /etc/kubernetes/server.crt
tlsPrivateKeyFile: /etc/kubernetes/server.key
cgroupDriver: $CGROUP_DRIVER
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
staticPodPath: /etc/kubernetes/manifests
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
resolvConf: ""
failSwapOn: false
makeIPTablesUtilChains: false
seccompDefault: true
maxPods: 250
# A guest is small and short-lived: nothing is evicted or collected for space.
enforceNodeAllocatable: []
evictionHard: {memory.available: 0%, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
CONFIG

# As an init system does: what ends is started again.
keep() {
	while :; do
		"$@"
		echo "node: $1 ended with $?; once more" >&2
		sleep 1
	done
}
keep containerd >&2 &
keep "$box" nc -ll -p 5001 -e /run/mooring/exec >&2 2>&1 &
until [ -S /run/containerd/containerd.sock ]; do $box usleep 100000; done
# Its address is the host's business: the API server reaches it by a port there.
keep /node/bin/kubelet --config=/etc/kubernetes/kubelet.yaml --kubeconfig=/etc/kubernetes/kubeconfig --hostname-override="$NODE" \
	--cloud-provider=external 2>&1
