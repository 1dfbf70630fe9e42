#!/usr/bin/env bash
# The verdict and the newest run's report, in Markdown: to the job's summary page, or to standard output outside of Actions.
# A summary page takes 1 MiB; a longer report is cut there, and whole in the artifact.
set -euo pipefail
cd "$(dirname "$0")/.."

page() {
    if [ -f results/verdict.txt ]; then cat results/verdict.txt; else echo "No verdict: the run did not finish; the step's log and results/runs/*/logs say why."; fi
    newest=$(ls -t results/runs/*/report/report.md 2> /dev/null | sed -n 1p)
    if [ -n "$newest" ]; then echo; cat "$newest"; fi
    if [ -f results/comparison.txt ]; then printf '\n## Against the last recorded run\n\n```\n'; cat results/comparison.txt; printf '```\n'; fi
}

page | { head -c 1000000 || true; } >> "${GITHUB_STEP_SUMMARY:-/dev/stdout}"
