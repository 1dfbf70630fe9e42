#!/usr/bin/env bash
# Can this machine build and run images? Exit 0, or 1 and the reason in one line. It tries each thing once, in seconds: the tools, the
# disk, the archive of packages, and one container with mounts, namespaces and cgroups of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
source containers/lock.bash
export CONTAINERS_CONF=$PWD/containers/containers.conf

no() { echo "this machine cannot build images: $*"; exit 1; }
trap 'no "line $LINENO of containers/can_build.sh failed: $BASH_COMMAND"' ERR

for tool in buildah podman runc skopeo mmdebstrap; do
    command -v "$tool" > /dev/null || no "found no $tool, and make container-tools did not install it"
done

work=$(mktemp -d)
said() { tr '\n' ' ' < "$work/error" | cut -c -300; }
trap 'rm -rf "$work"' EXIT

store=$(buildah info --format '{{.store.GraphRoot}}' 2> "$work/error") || no "buildah has no store: $(said)"
free=$(free_gib "$store") needed=$(needed_gib cpu)
[ "$free" -ge "$needed" ] || no "found $free GiB free in $store, expected $needed"

# The archive that containers/image.sh takes packages from, where no dated one can be reached; under apt's own settings (mirrors, proxies).
sources=/etc/apt/sources.list.d/debian.sources
read -r site release < <(awk '/^(URIs|Suites):/ && !seen[$1]++ { print $2 }' "$sources" 2> /dev/null | paste -sd' ')
[ -n "${release:-}" ] || no "$sources names no archive"
/usr/lib/apt/apt-helper -o APT::Sandbox::User=root download-file "${site%/}/dists/$release/InRelease" "$work/InRelease" > "$work/error" 2>&1 ||
    no "$site does not answer: $(said)"

# `true` and its libraries, in a container of the kind that a build uses.
mkdir "$work/root"
program=$(type -P true)
libraries=$(ldd "$program" | grep -o '/[^ ]*')
# shellcheck disable=SC2086
cp --dereference --parents "$program" $libraries "$work/root"
container=$(buildah from scratch 2> "$work/error") || no "buildah from scratch: $(said)"
trap 'rm -rf "$work"; buildah rm "$container" > /dev/null' EXIT
{ buildah copy --quiet "$container" "$work/root" / && buildah run --isolation=oci --runtime=runc --network=none "$container" "$program"; } \
    > "$work/error" 2>&1 || no "a container does not start: $(said)"
