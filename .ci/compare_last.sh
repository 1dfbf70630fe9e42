#!/usr/bin/env bash
# Compares a run with the newest recorded run of its backend, or with the published run if none is recorded. Exit code 1 only for a
# wrong output or a regression that the statistics support, 3 if not one cell could be compared.
# Usage: .ci/compare_last.sh BIN RUN BACKEND      RUN: a folder of results/runs/; BIN: the folder that holds `bakeoff`
set -euo pipefail
cd "$(dirname "$0")/.."

last=results/published/2026-02-26_4way
for folder in results/recorded/*/; do
    if grep -qs "\"backend\": *\"$3\"" "${folder}config.json"; then last=${folder%/}; fi
done
echo "compared with $last" | tee "results/runs/$2/comparison.txt"
"$1/bakeoff" compare "$last" "results/runs/$2" | tee -a "results/runs/$2/comparison.txt"
