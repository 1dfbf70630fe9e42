#!/usr/bin/env bash
# The newest run's verdict and report, in Markdown: to the job's summary page, or to standard output outside of Actions.
# A summary page takes 1 MiB; a longer report is cut there at the end of a line, and whole in the artifact.
set -euo pipefail
cd "$(dirname "$0")/.."

# What a step wrote last is of the newest run, whether that has a report or not.
newest=$(ls -td results/runs/*/{logs/*,report/report.md} 2> /dev/null | sed -n 1p) || true
run=$(cut -d/ -f1-3 <<< "${newest:-results/runs/none}")

page() {
    if [ -f "$run/verdict.txt" ]; then cat "$run/verdict.txt"; else echo "No verdict: the run did not finish; the step's log and results/runs/*/logs say why."; fi
    if [ -f "$run/report/report.md" ]; then echo; cat "$run/report/report.md"; fi
    # A comparison that is older than the run's traces is of what was there before.
    if [ "$run/comparison.txt" -nt "$run/traces.jsonl" ]; then
        printf '\n## Against the last recorded run\n\n```\n'; cat "$run/comparison.txt"; printf '```\n'
    fi
}

# awk counts bytes in this locale, and reads to the end, so that nothing writes into a closed pipe.
page | LC_ALL=C awk '{ size += length($0) + 1 } size <= 1000000' >> "${GITHUB_STEP_SUMMARY:-/dev/stdout}"
