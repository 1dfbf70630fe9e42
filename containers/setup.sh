#!/bin/sh
# Runs inside an image while it is built, from every Containerfile and Apptainer definition, so that all have the same content.
# The same inputs give the same bytes: nothing here depends on the clock, the host or the order of a hash table.
#
#   setup.sh apt SNAPSHOT PACKAGE[=VERSION]...   packages of the distribution's archive as it was at SNAPSHOT (20261122T000000Z)
#   setup.sh python LOCK...                      /opt/bakeoff: a virtual environment of exactly the locked wheels; what beside-NAME.lock
#                                                lists stands in a folder NAME of site-packages, out of the way of everything else
set -eu
export LC_ALL=C.UTF-8

install_apt() {
    snapshot=$1; shift
    # Ubuntu's apt knows dated snapshots by itself; other archives in the image (NVIDIA's) have none, so their packages name a version.
    apt-get update --snapshot "$snapshot" -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --allow-downgrades --snapshot "$snapshot" "$@"
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/aux-cache /var/log/apt /var/log/dpkg.log /var/log/alternatives.log
}

# The entry of one package in a lock, or all entries but that one: an entry is a line at the margin and the indented ones below it.
entry() { awk -v name="$1" '/^[^ #]/ { inside = index($0, name "==") == 1 } inside' "$2"; }
others() { awk -v name="$1" '/^[^ #]/ { inside = index($0, name "==") == 1 } !inside' "$2"; }

# Byte code of the packages whose names begin with LETTERS. The bytes of a module can depend on which modules the same process compiled
# before it, so each of the two processes has a fixed list (about half of all source each). -f also replaces what pip left, which holds
# a time. A package may ship files that are templates and no Python: those are passed over.
compile_folder() {
    # shellcheck disable=SC2086
    PYTHONHASHSEED=0 /opt/bakeoff/bin/python -W ignore -m compileall -q -f -j 1 --invalidation-mode unchecked-hash \
        /opt/bakeoff/lib/python3*/site-packages/[$1]* > /dev/null || true
}

install_python() {
    python3 -m venv /opt/bakeoff
    work=$(mktemp -d)
    install="/opt/bakeoff/bin/pip --disable-pip-version-check --no-cache-dir install --quiet --no-compile --no-deps --require-hashes"
    for lock in "$@"; do
        case $lock in */beside-*)
            name=$(basename "$lock" .lock)
            $install --only-binary=:all: --target "$(echo /opt/bakeoff/lib/python3*/site-packages)/${name#beside-}" -r "$lock"
            continue ;;
        esac
        # connection-pool has no wheel and is built from its source archive with the locked setuptools: second, and without a network.
        others connection-pool "$lock" > "$work/wheels"
        entry connection-pool "$lock" > "$work/source"
        $install --only-binary=:all: -r "$work/wheels"
        if [ -s "$work/source" ]; then $install --no-build-isolation --use-pep517 -r "$work/source"; fi
    done
    rm -rf "$work"
    # The project's command line, of the checkout that is mounted.
    printf '#!/bin/sh\nexec /opt/bakeoff/bin/python -m bakeoff "$@"\n' > /opt/bakeoff/bin/bakeoff
    chmod 755 /opt/bakeoff/bin/bakeoff
    # Byte code, since the root is read-only later.
    compile_folder s-z & compile_folder '!s-z'; wait
    # What `bakeoff probe` compares with the checkout that it finds in this image.
    cat "$@" | sha256sum | cut -d' ' -f1 > /opt/bakeoff/locks.sha256
}

step=$1; shift
case $step in
    apt) install_apt "$@" ;;
    python) install_python "$@" ;;
    *) echo "setup.sh: found $step, expected apt or python" >&2; exit 2 ;;
esac
