#!/usr/bin/env bash
# Renders all committed runs into a static folder: a page for each, and a landing page with the history of each cell.
# Usage: .ci/site.sh BIN FOLDER      BIN: the folder that holds `bakeoff`
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$1 site=$2
rm -rf "$site"
model() { "$bin/python" -c 'import json, sys; print(*(gpu["name"] for gpu in json.load(open(sys.argv[1]))["gpus"]))' "$1/host.json"; }

declare -A newest=()
mapfile -t runs < <(printf '%s\n' results/published/*/ results/recorded/*/ | LC_ALL=C sort -t / -k 3)
for number in "${!runs[@]}"; do
    run=${runs[number]%/} before=() beside=()
    made=$site/$(basename "$run")
    [ "$number" -eq 0 ] || beside+=(--previous "../$(basename "${runs[number - 1]}")/report.html")
    [ -z "${runs[number + 1]:-}" ] || beside+=(--next "../$(basename "${runs[number + 1]}")/report.html")
    if [ -f "$run/host.json" ]; then
        gpu=$(model "$run")
        [ -z "${newest[$gpu]:-}" ] || before=(--against "${newest[$gpu]}")
        newest[$gpu]=$run
    fi
    "$bin/bakeoff" analyse "$run" "${before[@]}" -o "$made/analysis.json" 2> /dev/null
    "$bin/bakeoff" report "$made/analysis.json" -o "$made" --home ../index.html "${beside[@]}" > /dev/null
done
"$bin/bakeoff" index "$site"/*/ --out "$site/index.html"
