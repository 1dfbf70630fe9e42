#!/usr/bin/env bash
# Judges every run in a folder of submissions; nothing of them is run, and no link is followed.
# Usage: .ci/judge.sh BIN FOLDER      BIN: the folder that holds `bakeoff`
# Exit code 1: one was refused. What is judged also goes into the summary of a CI job.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$1 folder=$2 summary=${GITHUB_STEP_SUMMARY:-/dev/null}
case $folder in /*) ;; *) folder=$PWD/$folder ;; esac
[ "$(realpath -- "$folder")" = "$folder" ] || { echo "judge: found a link in the path $folder, expected plain folders" >&2; exit 2; }

refused=0
while IFS= read -r -d '' entry; do
    name=${entry##*/}
    name=${name//[^A-Za-z0-9_.-]/?}
    echo "== $name"
    said=$("$bin/python" -m bakeoff verify --submission "$entry") || refused=1
    printf '%s\n' "$said"
    # Indented, so that nothing of it is taken for Markdown.
    { printf '### %s\n\n' "$name"; printf '%s\n' "$said" | sed 's/^/    /'; printf '\n'; } >> "$summary"
done < <(find "$folder" -mindepth 1 -maxdepth 1 ! -name README.md -print0 | sort -z)
exit "$refused"
