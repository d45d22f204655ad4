#!/bin/sh
# The image of deploy/Containerfile under podman or docker, by the very commands of INSTALL.md: it governs the machine's tree, and is
# replaced beside a workload that lives on. `make test-image` starts this in a guest, for it writes to /srv, /run and the root of cgroups.
# Usage: image.sh ARCHIVE-OF-THE-IMAGE podman|docker
set -eu

tree=/sys/fs/cgroup/bellows
cgroup=$tree/workloads/default/stays

# The guest's root is an overlay, on which another cannot be mounted; nothing here asks for a network of its own.
case $2 in
podman)
    docker() {
        podman --root "$BELLOWS_SCRATCH/podman" --runroot /run/image-test --storage-driver vfs --cgroup-manager cgroupfs "$@"
    }
    ;;
docker)
    mkdir /run/image-test
    # It ends with the guest.
    dockerd --data-root "$BELLOWS_SCRATCH/docker" --exec-root /run/image-test --storage-driver vfs --bridge none --iptables=false \
        --exec-opt native.cgroupdriver=cgroupfs >/run/image-test/said 2>&1 &
    ;;
esac

# documented WORDS: runs the command of INSTALL.md that begins so.
documented() {
    line=$(sed -n '/^## In a container/,/^## Is/p' INSTALL.md | sed -e ':more' -e '/\\$/{N;s/\\\n *//;b more' -e '}' |
        grep "^$1" | sed 's/COMMAND/sh -c "echo from the box"/')
    [ -n "$line" ] || fail "INSTALL.md has no: $1"
    printf '# %s\n' "$line"
    eval "$line"
}

fail() {
    printf 'FAIL: %s\n' "$1"
    docker logs bellows || true
    exit 1
}

# eventually WHAT COMMAND: within a minute it succeeds.
eventually() {
    what=$1 tries=300
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "$what"
        sleep 0.2
    done
    printf 'ok    %s\n' "$what"
}

high_is() { [ "$(cat $cgroup/memory.high)" = "$1" ]; }
bellows() { docker exec bellows /usr/bin/bellows "$@"; }

eventually "$2 answers" docker info
docker load --quiet --input "$1"
# As podman names what it builds.
docker tag localhost/bellows bellows
echo '+memory +cpu +pids' >/sys/fs/cgroup/cgroup.subtree_control
documented 'mkdir'
mount --rbind / /srv/images/web

documented 'docker run'
eventually 'the agent answers' bellows ps
documented 'docker exec bellows /usr/bin/bellows doctor'
said=$(documented 'docker exec bellows /usr/bin/bellows run')
printf '%s\n' "$said"
printf '%s\n' "$said" | grep -qx 'from the box' || fail 'the workload said nothing'

bellows run --detach --name stays --memory 16M..64M --rootfs /images/web -- sh -c 'while :; do sleep 1; done'
high=$(cat $cgroup/memory.high)
[ "$high" != max ] || fail 'the workload has no limit'
# Its init and its shell; what sleeps is another one each second.
pids=$(head -n 2 $cgroup/cgroup.procs)
same_process() { [ "$(head -n 2 $cgroup/cgroup.procs)" = "$pids" ]; }

docker stop bellows
eventually 'docker stop opens the limits' high_is max
docker rm bellows
eventually 'the workload lives on' same_process
documented 'docker run'
eventually 'the next agent governs it again' high_is "$high"

docker kill bellows
eventually 'docker kill leaves a watchdog, which opens the limits' high_is max
docker rm --force bellows
eventually 'the workload lives on' same_process
documented 'docker run'
eventually 'the next agent answers' bellows stop stays
eventually 'the workload has ended' [ ! -e $cgroup ]
docker rm --force bellows
echo 'the image is well'
