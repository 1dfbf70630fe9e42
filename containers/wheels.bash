# Sourced, from the checkout's root: downloads what locks name, for images and bundles. Needs the checkout's .venv, for pip.

# download_wheels FOLDER PYTHON LOCK...: the locked wheels for one Python (3.12, say) on x86-64, once per content of the locks.
download_wheels() {
    local folder=$1 python=$2 tags=() minor made_by
    shift 2
    # Which of a release's wheels are taken is decided below: those of another rule are no use.
    made_by=$(cat "$@" | cat - <(declare -f download_wheels) <(echo "$python") | sha256sum)
    if [ "$made_by" = "$(cat "$folder/.complete" 2>/dev/null)" ]; then return; fi
    rm -rf "${folder:?}"/*
    say "wheels: $folder"
    # As pip itself would: of several wheels of one release, the one for the latest glibc.
    for minor in $(seq 28 -1 5); do tags+=(--platform "manylinux_2_${minor}_x86_64"); done
    mkdir -p "$folder"
    local download=(.venv/bin/python -m pip --disable-pip-version-check download --quiet --no-deps --require-hashes --dest "$folder")
    local work lock; work=$(mktemp -d)
    for lock in "$@"; do
        awk '/^[^ #]/ { inside = index($0, "connection-pool==") == 1 } !inside' "$lock" > "$work/wheels.txt"
        awk '/^[^ #]/ { inside = index($0, "connection-pool==") == 1 } inside' "$lock" > "$work/source.txt"
        # shellcheck disable=SC2046
        "${download[@]}" --only-binary=:all: --python-version "$python" --implementation cp --abi "cp${python/./}" --abi abi3 --abi none \
            "${tags[@]}" --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 --platform manylinux1_x86_64 --platform linux_x86_64 \
            --platform any --retries 1 $(index_of "$lock") -r "$work/wheels.txt"
        if [ -s "$work/source.txt" ]; then "${download[@]}" --no-build-isolation -r "$work/source.txt"; fi
    done
    rm -rf "$work"
    echo "$made_by" > "$folder/.complete"
}

# The index of torch's makers has the CPU build, and nothing else that is wanted.
index_of() { if [[ $1 = */torch.lock ]]; then echo "--extra-index-url ${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}"; fi; }
