#!/usr/bin/env bash
# Builds the images of images.lock.yaml with buildah. Needs buildah, runc, skopeo, mmdebstrap (for a Debian base) and the checkout's
# .venv (for pip). Everything lands under .cache/ and in the local image store.
#
#   containers/image.sh build NAME     the image localhost/bakeoff-NAME; NAME may be one of cpu, cu130, cu130-profile, published-2026-02
#   containers/image.sh archive NAME   .cache/images/NAME-DIGEST.tar (an OCI archive); prints its name and digest
#   containers/image.sh sif NAME       .cache/images/NAME.sif, with Apptainer from containers/NAME/bakeoff.def
#   containers/image.sh confirm NAME   that the registry serves the base whose digest stands in images.lock.yaml
#   containers/image.sh attested NAME  that GitHub built the published image, by its attestation; needs gh, and says so where it is missing
#   containers/image.sh record NAME    write the archive's digest into images.lock.yaml
#   containers/image.sh push NAME REPOSITORY   publish the archive, tagged VERSION-LOCKS; prints repository=… and digest=…
#
# STANDIN=1   on a machine that reaches no registry: Debian with a Python of the image's version (from PATH) in place of NVIDIA's base.
#             Such an image is called bakeoff-NAME:standin; it proves the locked packages, and is never published.
# TORCH_INDEX as in the Makefile.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."
source containers/lock.bash
source containers/wheels.bash
export CONTAINERS_CONF=$PWD/containers/containers.conf
CACHE=.cache/images

main() {
    local command=${1:?build, archive, sif, confirm, attested, record or push} name=${2:?an image of containers/images.lock.yaml}
    known_image "$name"
    SNAPSHOT=$(field "$name" snapshot)
    SOURCE_DATE_EPOCH=$(date -u -d "$(sed -E 's/(....)(..)(..)T(..)(..)(..)Z/\1-\2-\3 \4:\5:\6/' <<< "$SNAPSHOT")" +%s)
    export SOURCE_DATE_EPOCH
    TAG=localhost/bakeoff-$name:${STANDIN:+standin}
    TAG=${TAG%:}
    mkdir -p "$CACHE"
    case $command in
        build) build "$name" ;;
        archive) archive "$name" ;;
        sif) sif "$name" ;;
        confirm) confirm "$name" ;;
        attested) attested "$name" ;;
        record) record "$name" ;;
        push) push "$name" "${3:?a repository, such as ghcr.io/OWNER/bakeoff-$name}" ;;
        *) fail "$command" "build, archive, sif, confirm, attested, record or push" "see the head of containers/image.sh" ;;
    esac
}

enough_room() {
    local need store folder free
    need=$(needed_gib "$1")
    store=$(buildah info --format '{{.store.GraphRoot}}')
    for folder in "$store" "${TMPDIR:-/var/tmp}" "$CACHE"; do
        free=$(free_gib "$folder")
        [ "$free" -ge "$need" ] || LOCK_FILE=$folder fail "$free GiB free" "$need GiB, which building the image $1 takes for a while" \
            "make room there; \`podman image prune\` drops what no image needs"
    done
}

build() {
    local name=$1 base packages="" network=none wheels
    enough_room "$name"
    collect_wheels "$name" & wheels=$!
    if [ -n "$(field "$name" base_suite)" ] || [ -n "${STANDIN:-}" ]; then
        base=$(debian_base "$name")
    else
        base=$(field "$name" base_name)@$(field "$name" base_digest)
        packages=$(items "$name" packages)
        network=host
    fi
    wait "$wheels"
    say "image $TAG"
    buildah bud --quiet --isolation=oci --runtime=runc --layers=false --timestamp "$SOURCE_DATE_EPOCH" --network="$network" \
        --build-arg BASE="$base" --build-arg SNAPSHOT="$SNAPSHOT" --build-arg APT_PACKAGES="$packages" \
        --build-arg PIP_FIND_LINKS=/wheels --build-arg PIP_NO_INDEX=1 --build-arg SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" \
        --build-arg IMAGE="$name" --volume "$(realpath ".cache/wheels/$(recipe "$name")"):/wheels:ro" --file "containers/$(recipe "$name")/Containerfile" --tag "$TAG" . >&2
    podman image inspect --format '{{.Digest}}' "$TAG"
}

# The build itself then needs no network.
collect_wheels() {
    # shellcheck disable=SC2046
    download_wheels ".cache/wheels/$(recipe "$1")" "$(field "$1" python)" $(items "$1" locks)
}

# A base made of Debian packages; prints its image name. A stand-in also gets the image's Python.
debian_base() {
    local name=$1 root=$CACHE/base-$1${STANDIN:+-standin} packages suite extra=()
    suite=$(field "$name" base_suite)
    if [ -n "$suite" ]; then packages=$(items "$name" packages); else suite=bookworm packages="ca-certificates gcc git libc6-dev libgomp1 make procps tini"; fi
    if [ -n "${STANDIN:-}" ]; then extra=(--customize-hook="$PWD/containers/standin-python.sh $(field "$name" python) \"\$1\""); packages="$packages $STANDIN_LIBRARIES"; fi
    say "base of $name: Debian $suite"
    debian_sources "$suite" > "$root.sources"
    mmdebstrap --quiet --variant=minbase --include="${packages// /,}" "${extra[@]}" "$suite" "$root.tar" "$root.sources"
    local container; container=$(buildah from scratch)
    buildah add --quiet "$container" "$root.tar" / >&2
    buildah commit --quiet --timestamp "$SOURCE_DATE_EPOCH" --rm "$container" "localhost/bakeoff-base-$name${STANDIN:+:standin}" >&2
    rm "$root.tar"
    echo "localhost/bakeoff-base-$name${STANDIN:+:standin}"
}
# What a Python built on Debian 12 links to.
STANDIN_LIBRARIES="libbz2-1.0 libffi8 liblzma5 libncursesw6 libreadline8 libsqlite3-0 libssl3 zlib1g"

# Debian as it was at the snapshot; where the archive of snapshots cannot be reached, Debian as this host has it, with a notice.
debian_sources() {
    local suite=$1 archive=http://snapshot.debian.org/archive key=/usr/share/keyrings/debian-archive-keyring.gpg host=/etc/apt/sources.list.d/debian.sources
    if curl -sfI --max-time 20 -o /dev/null "$archive/debian/$SNAPSHOT/dists/$suite/InRelease"; then
        printf 'deb [signed-by=%s check-valid-until=no] %s/debian/%s %s main\n' "$key" "$archive" "$SNAPSHOT" "$suite"
        printf 'deb [signed-by=%s check-valid-until=no] %s/debian-security/%s %s-security main\n' "$key" "$archive" "$SNAPSHOT" "$suite"
    elif [ -f "$host" ]; then
        say "  $archive cannot be reached: Debian as this host has it, so the digest may differ from another day's"
        cat "$host"
    else
        fail "neither $archive nor $host" "one of them, as the source of Debian packages" "run on a host with a network, or on Debian 12"
    fi
}

archive() {
    say "archive of $1"
    rm -f "$CACHE/$1"-*.tar
    buildah push --quiet --digestfile "$CACHE/$1.digest" "$TAG" "oci-archive:$CACHE/$1.tar:$TAG:latest" >&2
    mv "$CACHE/$1.tar" "$(archive_file "$1")"
    # The name that run.sh looks for.
    local digest; digest=$(cat "$CACHE/$1.digest")
    buildah tag "$TAG" "localhost/bakeoff-$1:${digest:7:12}"
    if [ -z "${STANDIN:-}" ] && [ "$digest" != "$(field "$1" digest)" ]; then
        say "  its digest is not the one of $LOCK_FILE: make record-image IMAGE=$1 writes it there, and what runs $1 takes this image then"
    fi
    echo "$(archive_file "$1") $digest"
}

sif() {
    local definition; definition=containers/$(recipe "$1")/bakeoff.def
    [ -f "$definition" ] || fail "no $definition" "an Apptainer definition" "build the OCI image (make image IMAGE=$1); Apptainer runs its archive"
    apptainer build --build-arg BASE="$(field "$1" base_name)@$(field "$1" base_digest)" --build-arg SNAPSHOT="$SNAPSHOT" \
        --build-arg APT_PACKAGES="$(items "$1" packages)" --build-arg IMAGE="$1" "$CACHE/$1.sif" "$definition"
}

# The folder that builds an image: its own, or that of the image which it is with other packages.
recipe() { local other; other=$(field "$1" recipe); echo "${other:-$1}"; }

archive_file() { local digest; digest=$(cat "$CACHE/$1.digest"); echo "$CACHE/$1-${digest:7:12}.tar"; }

record() {
    local digest; digest=$(cat "$CACHE/$1.digest")
    awk -v name="  $1:" -v digest="$digest" '/^  [^ ]/ { inside = $0 == name } inside && /^    digest:/ { $0 = "    digest: " digest } { print }' \
        containers/images.lock.yaml > "$CACHE/images.lock.yaml"
    cat "$CACHE/images.lock.yaml" > containers/images.lock.yaml
    say "containers/images.lock.yaml: $1 is $digest"
}

confirm() {
    local name digest found
    name=$(field "$1" base_name)
    if [ -z "$name" ]; then say "$1 starts from Debian packages, which apt verifies"; return; fi
    for key in base_index base_digest; do
        digest=$(field "$1" "$key")
        found=sha256:$(skopeo inspect --raw "docker://$name@$digest" | sha256sum | cut -d' ' -f1)
        if [ "$found" != "$digest" ]; then
            fail "$name@$digest is served as $found" "the digest of containers/images.lock.yaml ($1: $key)" "do not build; find out which of the two is right"
        fi
        say "confirmed $name@$digest"
    done
}

# What the digest in the lock file stands for: an image that this project's workflow built. One built here needs no word of GitHub.
attested() {
    local repository digest owner
    repository=$(field "$1" repository) digest=$(field "$1" digest)
    [ -n "$repository" ] || return 0
    if ! command -v gh > /dev/null; then
        say "$1: its attestation was not verified: no gh on PATH"
        return 0
    fi
    owner=${repository#*/} owner=${owner%%/*}
    gh attestation verify "oci://$repository@$digest" --owner "$owner" >&2 ||
        fail "no valid attestation of $repository@$digest" "one that $owner's workflow containers.yml signed" \
            "do not run the image; if gh is not logged in or has no network, run gh auth login and try again"
    say "$1: attested by $owner"
}

# Registries take lower case alone. The tag names what is inside, so that an older image keeps one beside the newer.
push() {
    if [ -n "${STANDIN:-}" ]; then fail "a stand-in" "an image on its own base" "build without STANDIN"; fi
    local repository=${2,,} digest locks
    digest=$(cat "$CACHE/$1.digest")
    # shellcheck disable=SC2046
    locks=$(cat $(items "$1" locks) | sha256sum | cut -c 1-12)
    skopeo copy --quiet --preserve-digests "oci-archive:$(archive_file "$1")" \
        "docker://$repository:$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)-$locks" >&2
    printf 'repository=%s\ndigest=%s\n' "$repository" "$digest"
}

main "$@"; exit
