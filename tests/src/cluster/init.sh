# The first process of the node's namespaces (mounts, network, processes). It makes the node what kubelet and
# containerd expect, and then only waits: when it is killed, everything inside is gone.
#
#   $1: the cluster's directory; standard input: one line, "NODE-ADDRESS RANGE"
#
# The line comes when this process is written down. Without it whoever started this is gone, and so is this.
read -r node range || exit 0

mount --make-rprivate /
# what lies on the host's file system is left as it is, but for the cluster's directory
mount --bind "$1" "$1"
mount -o remount,bind,ro /
mount -t proc proc /proc
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /run
mount --bind "$1/node/lib" /var/lib
mount --bind "$1/node/log" /var/log

# kubelet wants these values of the kernel, which is the host's too: it is shown files instead
while read -r name value; do
    echo "$value" >"$1/node/$name"
    mount --bind "$1/node/$name" "/proc/sys/$(echo "$name" | tr . /)"
done <<END
vm.overcommit_memory 1
vm.panic_on_oom 0
kernel.panic 10
kernel.panic_on_oops 1
kernel.keys.root_maxkeys 1000000
kernel.keys.root_maxbytes 25000000
END
# what a pod mounts is seen where it asks for that, inside only
mount --make-rshared /

ip link set lo up
ip address add "$node/30" dev uplink
ip link set uplink up
# an address that no pod has is refused at once; there is no default route
ip route add unreachable "$range"
echo 1 >/proc/sys/net/ipv4/ip_forward
# Network policies never bind what comes from the node that a pod is on, and the host is to be as near to pods
# as the node is. By this mark kube-router knows what a policy has let through.
nft -f - <<END
table ip host {
    chain prerouting {
        type filter hook prerouting priority mangle
        iifname uplink meta mark set meta mark or 0x10000
    }
}
END

echo ready
exec <&- >&- 2>&-
# orphans come here, and are waited for together with what does not end
sleep infinity &
while :; do wait; done
