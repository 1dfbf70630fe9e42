# Sourced: reads containers/images.lock.yaml on a host without Python packages. Every value there is on one line;
# tests/containers compares this reader with the package's.

LOCK_FILE=containers/images.lock.yaml

say() { echo "$*" >&2; }
fail() { printf 'containers: %s\n  found:    %s\n  expected: %s\n  to do:    %s\n' "$LOCK_FILE" "$1" "$2" "$3" >&2; exit 2; }

image_names() { awk '/^images:/ { on = 1 } on && /^  [^ ]/ { sub(":", "", $1); print $1 }' "$LOCK_FILE"; }

known_image() { image_names | grep -qx -- "$1" || fail "image $1" "$(image_names | paste -sd' ')" "name one of these"; }

# field IMAGE KEY: its value; nothing for null or an absent key.
field() {
    awk -v name="  $1:" -v key="    $2: " '
        /^  [^ ]/ { inside = $0 == name }
        inside && index($0, key) == 1 { value = substr($0, length(key) + 1); gsub(/"/, "", value); if (value != "null") print value }
    ' "$LOCK_FILE"
}

# items IMAGE KEY: the members of a list, separated by spaces.
items() { field "$1" "$2" | tr -d '[],'; }

# What building an image takes for a while: it writes the wheels, the layers, and the whole image once more while it is committed.
# NVIDIA's bases come on top of a stand-in's.
needed_gib() { case $1:${STANDIN:+standin} in cpu:*) echo 12 ;; *:standin) echo 40 ;; *) echo 60 ;; esac; }

free_gib() { echo $(($(df --output=avail -k "$1" | tail -n 1) / 1024 / 1024)); }
