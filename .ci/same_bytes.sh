#!/usr/bin/env bash
# Renders every report of results/ once more, with another clock zone, locale and hash seed, and compares the bytes.
# Usage: .ci/same_bytes.sh BIN      BIN: the folder that holds `bakeoff`
set -euo pipefail
cd "$(dirname "$0")/.."
again=$(mktemp -d)
trap 'rm -rf "$again"' EXIT

count=0
for analysis in results/runs/*/analysis.json results/rendered/*/analysis.json; do
    [ -f "$analysis" ] || continue
    folder=$(dirname "$analysis") home=../../index.html
    [ -d "$folder/report" ] && folder=$folder/report home=../../../index.html
    # The reports beside this one are no part of the analysis: the page says which it was given.
    read -ra beside <<< "$(sed -nE 's/.*href="([^"]+)" rel="(prev|next)".*/--\2 \1/p' "$folder/report.html" | sed 's/^--prev /--previous /' | tr '\n' ' ')"
    TZ=Pacific/Chatham LC_ALL=C PYTHONHASHSEED=$RANDOM "$1/bakeoff" report "$analysis" -o "$again" --home $home "${beside[@]}" > /dev/null
    for file in report.html report.md; do
        cmp "$folder/$file" "$again/$file" || { echo "same_bytes: $folder/$file is not a function of $analysis alone" >&2; exit 1; }
        count=$((count + 1))
    done
done
[ "$count" -gt 0 ] || { echo "same_bytes: found no report under results/; expected some; run make reproduce first" >&2; exit 2; }
echo "same_bytes: $count files rendered to the same bytes"
