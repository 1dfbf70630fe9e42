#!/usr/bin/env bash
# Renew every hash-locked package list from its input (needs uv). Each lock's first line holds the digest of its input, so that a
# test notices a changed input without a network.
# Usage: containers/lock.sh [--refresh] [LOCK ...]      default: all locks; --refresh takes newer versions where the input allows
set -euo pipefail
cd "$(dirname "$0")/.."

refresh=()
if [ "${1:-}" = --refresh ]; then refresh=(--upgrade); shift; fi
common=(--quiet --no-config --generate-hashes --no-emit-index-url --custom-compile-command "make lock" "${refresh[@]}")
# connection-pool, which Snakemake needs, has no wheel: the one package that is built, from a locked source archive.
wheels=(--only-binary :all: --no-binary connection-pool)
torch_index=${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
# The images' platform: x86-64 with glibc 2.28 or later.
cpu=(--no-deps --python-version 3.11 --python-platform x86_64-manylinux_2_28 "${wheels[@]}")
image=(--python-version 3.12 --python-platform x86_64-manylinux_2_28 "${wheels[@]}")

lock() {  # lock FILE OPTION...: resolve FILE.in into FILE.lock
    local name=$1; shift
    echo "lock $name.lock"
    uv pip compile "${common[@]}" "$@" "$name.in" -o "$name.lock"
    sed -i "1i # input: sha256:$(cat "$name.in" $(sed -n "s|^-r |${name%/*}/|p" "$name.in") | sha256sum | cut -d' ' -f1)" "$name.lock"
}

renew() {
    case $1 in
        requirements/dev) lock "$1" --universal --python-version 3.11 ;;
        requirements/build | requirements/triton | requirements/flashinfer-bench | requirements/slurm) lock "$1" --universal --python-version 3.11 --no-deps --only-binary :all: ;;
        requirements/torch) lock "$1" --python-platform x86_64-manylinux_2_28 --python-version 3.11 --no-deps --only-binary :all: --default-index "$torch_index" ;;
        requirements/cpu) lock "$1" --universal --python-version 3.11 -c requirements/dev.lock ;;
        # The CPU image has Debian 12's Python. Without dependencies: those are in requirements/dev.lock.
        containers/cpu/torch) lock "$1" "${cpu[@]}" --default-index "$torch_index" ;;
        containers/cpu/requirements) lock "$1" "${cpu[@]}" ;;
        containers/cu130/requirements) lock "$1" "${image[@]}" ;;
        containers/cu130/beside-flashinfer-python-0.7.4) lock "$1" "${image[@]}" --no-deps ;;
        containers/published-2026-02/requirements) lock "$1" "${image[@]}" --exclude-newer 2026-02-26 ;;
        *) echo "lock.sh: found $1, expected one of the *.lock files of requirements/ and containers/" >&2; exit 2 ;;
    esac
}

if [ $# = 0 ]; then
    set -- requirements/{dev,cpu,build,torch,triton,flashinfer-bench,slurm} containers/cpu/torch containers/{cpu,cu130,published-2026-02}/requirements \
        containers/cu130/beside-flashinfer-python-0.7.4
fi
for name in "$@"; do renew "${name%.lock}"; done
