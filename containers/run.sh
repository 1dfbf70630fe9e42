#!/usr/bin/env bash
# Runs a command of this checkout inside an image, as this user, with a read-only root, no privileges and no network.
# Usage: containers/run.sh IMAGE COMMAND...       such as: containers/run.sh cpu make reproduce
#
# RUNTIME   docker or podman (default: the first one found)
# GPUS      GPUs for an image with CUDA: all (default), none, or a device's number or UUID
# COUNTERS  1: gives CAP_SYS_ADMIN, which Nsight Compute needs where the driver keeps its counters for administrators. Nothing else does.
# DATASET   a flashinfer-trace checkout, mounted read-only at /data/flashinfer-trace
# STANDIN   1: the image built on a stand-in base (containers/image.sh)
set -euo pipefail
cd "$(dirname "$0")/.."
source containers/lock.bash

name=${1:?an image of containers/images.lock.yaml}; shift
[ $# -gt 0 ] || fail "no command" "a command to run in $name" "containers/run.sh $name make reproduce"
known_image "$name"
runtime=${RUNTIME:-$(command -v podman || command -v docker || true)}
[ -n "$runtime" ] || fail "neither podman nor docker on PATH" "one of them" "install one, or run without a container: make reproduce"
if [ "${runtime##*/}" = podman ] && command -v runc > /dev/null; then export CONTAINERS_CONF=$PWD/containers/containers.conf; fi

# load ARCHIVE IMAGE: an OCI archive into the runtime's store. Docker's own `load` reads another format.
load() {
    say "loading $1"
    if [ "${runtime##*/}" = podman ]; then
        "$runtime" tag "$("$runtime" load --quiet --input "$1" | sed -n 's/^Loaded image: *//p')" "$2"
    else
        command -v skopeo > /dev/null || fail "no skopeo on PATH" "skopeo, which copies the image into Docker's store" "make container-tools"
        skopeo copy --quiet "oci-archive:$1" "docker-daemon:$2"
    fi
}

# The published image by its digest; else the one built here whose archive has the digest of the lock file: its tag says so.
digest=$(field "$name" digest) repository=$(field "$name" repository)
if [ -n "$repository" ]; then
    image=$repository@$digest
elif [ -n "${STANDIN:-}" ]; then
    image=localhost/bakeoff-$name:standin
    "$runtime" image inspect "$image" > /dev/null 2>&1 || fail "no image $image" "the image" "STANDIN=1 make image IMAGE=$name"
    digest=$("$runtime" image inspect --format '{{.Id}}' "$image") digest=sha256:${digest#sha256:}
else
    image=localhost/bakeoff-$name:${digest:7:12}
    archive=.cache/images/$name-${digest:7:12}.tar
    if [ -z "$digest" ] || ! "$runtime" image inspect "$image" > /dev/null 2>&1; then
        [ -n "$digest" ] && [ -f "$archive" ] || fail "no image with the digest ${digest:-(none yet)} here, and $name is published nowhere" \
            "that image, or its archive $archive" "make image IMAGE=$name; if what it prints has another digest (a later Debian), also make record-image IMAGE=$name"
        load "$archive" "$image"
    fi
fi

options=(--rm --read-only --network=none --cap-drop=all --security-opt=no-new-privileges --user "$(id -u):$(id -g)"
    --env "BAKEOFF_IMAGE_DIGEST=$digest"
    --tmpfs /tmp:rw,exec,nosuid,size=8g --volume "$PWD:/bakeoff" --workdir /bakeoff)
gpus=${GPUS:-all}
if [ -n "$(field "$name" cuda)" ] && [ "$gpus" != none ]; then
    # One measurement per GPU, whichever container it runs in: workflow/bakeoff/locks.py.
    locks=/tmp/bakeoff-gpu-locks
    [ -d "$locks" ] || mkdir -m 1777 "$locks"
    options+=(--volume "$locks:$locks")
    if [ "${runtime##*/}" = podman ]; then options+=(--device "nvidia.com/gpu=$gpus"); else options+=(--gpus "$gpus"); fi
fi
# Rootless Podman maps users: this one stays itself, or it could not write the checkout.
if [ "${runtime##*/}" = podman ] && [ "$(id -u)" != 0 ]; then options+=(--userns=keep-id); fi
if [ "${COUNTERS:-}" = 1 ]; then options+=(--cap-add=SYS_ADMIN); fi
if [ -n "${DATASET:-}" ]; then options+=(--volume "$(realpath "$DATASET"):/data/flashinfer-trace:ro"); fi

status=0
"$runtime" run "${options[@]}" "$image" "$@" || status=$?
if [[ "$status" = 125 && ${options[*]} = *gpu* ]]; then
    cat >&2 <<HINT
containers/run.sh: ${runtime##*/} did not start $image
  found:    the message above
  expected: a container runtime that can give GPUs away (GPUS=$gpus)
  to do:    install nvidia-container-toolkit, then \`nvidia-ctk runtime configure --runtime=docker\` and restart Docker, or for Podman
            \`nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml\`. Without a GPU: GPUS=none, or the image cpu.
HINT
fi
exit "$status"
