#!/usr/bin/env bash
# mmdebstrap hook of a stand-in base: copies this host's Python of the wanted version into the new root, as its python3.
# Usage: standin-python.sh VERSION ROOT
set -euo pipefail
version=$1 root=$2
# PYENV_VERSION: pyenv's commands only work for a version that is chosen.
prefix=$(PYENV_VERSION=$version "python$version" -c 'import sys; print(sys.base_prefix)') || {
    echo "standin-python.sh: found no working python$version on PATH, expected one to copy; install it (pyenv, say) or set PATH" >&2
    exit 2
}
mkdir -p "$root/opt/python"
tar -C "$prefix" --exclude='__pycache__' --exclude='*.a' --exclude='test' --exclude='site-packages/*' -c . | tar -C "$root/opt/python" -x --no-same-owner
echo /opt/python/lib > "$root/etc/ld.so.conf.d/python.conf"
chroot "$root" ldconfig
chroot "$root" "/opt/python/bin/python$version" -c 'import ctypes, hashlib, lzma, sqlite3, ssl, venv'
# Not a link: Python looks for its library beside the name that it was called by.
printf '#!/bin/sh\nexec /opt/python/bin/python%s "$@"\n' "$version" > "$root/usr/local/bin/python3"
chmod 755 "$root/usr/local/bin/python3"
