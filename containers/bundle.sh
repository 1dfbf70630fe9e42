#!/usr/bin/env bash
# Packs what `make reproduce` needs on a host without a network: every locked wheel, the sources with their history, and the images that
# were built here. `make bundle` calls it, `make reproduce BUNDLE=FOLDER` uses it; docs/containers.md has both.
# Usage: containers/bundle.sh cpu|cu130 FOLDER [PART_SIZE]     PART_SIZE as split takes it (2G, say): also FOLDER.tar in parts of that size
set -euo pipefail
shopt -s inherit_errexit nullglob
cd "$(dirname "$0")/.."
source containers/lock.bash
source containers/wheels.bash
environment=${1:?cpu or cu130} folder=${2:?the folder to make} part=${3:-}

case $environment in
    cpu) python=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
         locks=(requirements/build.lock requirements/torch.lock requirements/cpu.lock requirements/triton.lock) ;;
    cu130) python=$(field cu130 python) locks=(requirements/build.lock containers/cu130/requirements.lock containers/cu130/beside-flashinfer-python-0.7.4.lock) ;;
    *) fail "environment $environment" "cpu or cu130" "make bundle ENVIRONMENT=cpu" ;;
esac
[ -z "$(git status --porcelain)" ] || say "bundle: uncommitted changes stay out; the bundle has $(git describe --always)"

mkdir -p "$folder/images"
download_wheels "$folder/wheels" "$python" "${locks[@]}"
# With the branch, so that a clone of it is on one.
# shellcheck disable=SC2046
git bundle create --quiet "$folder/source.gitbundle" HEAD $(git symbolic-ref --quiet --short HEAD || true)
digest=$(field "$environment" digest)
for archive in .cache/images/"$environment-${digest:7:12}.tar"; do
    if [ -f "$archive" ]; then cp --force --link "$archive" "$folder/images/" 2> /dev/null || cp "$archive" "$folder/images/"; fi
done
cat > "$folder/README.txt" <<EOF
bakeoff, for a host without a network: environment $environment, Python $python on x86-64.

    git clone source.gitbundle bakeoff && cd bakeoff
    make reproduce BUNDLE=FOLDER ENVIRONMENT=$environment     FOLDER: where this file lies

SHA256SUMS has the digest of every file; \`sha256sum --check --quiet SHA256SUMS\` compares them.
An archive under images/ goes into the checkout's .cache/images/; \`make reproduce-in-container\` finds it there.
EOF
(cd "$folder" && find . -type f ! -name SHA256SUMS ! -name .complete -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum > ../SHA256SUMS.new && mv ../SHA256SUMS.new SHA256SUMS)
du -sh --apparent-size "$folder" >&2
if [ -n "$part" ]; then
    rm -f "$folder".tar.*
    tar --create --directory "$folder" --exclude=.complete --sort=name --owner=0 --group=0 --numeric-owner . | split --bytes="$part" --numeric-suffixes --suffix-length=3 - "$folder.tar."
    say "join them: cat $(basename "$folder").tar.* | tar --extract --directory FOLDER"
fi
echo "$folder"
