#!/usr/bin/env bash
# What surrounds a nightly run in hosted jobs: the rolling baseline, the comparison with it, and the issue that a regression opens.
#
#   .ci/nightly.sh compare BIN   the run in results/runs/b200 against the baseline; writes results/nightly/{outcome,comparison.txt}
#   .ci/nightly.sh publish       opens or closes the issue as the outcome says, and makes the run the baseline if nothing is wrong with it
#   .ci/nightly.sh watch         opens an issue if no runner took the last night's run
#
# The baseline is one archive, an asset of the pre-release `baseline-b200`. Outcomes: `same` (nothing slower, nothing wrong), `first` (there
# was no baseline), `regression` (a slower cell that the statistics support, or a wrong output), `incomparable` (no cell could be compared),
# `no-run` (the night brought no traces), `broken` (the comparison itself did not end). Needs gh with GH_TOKEN and GH_REPO; `publish` reads nothing of the run but passes it on.
set -euo pipefail
cd "$(dirname "$0")/.."
RELEASE=baseline-b200 ASSET=baseline.tar.gz RUN=results/runs/b200 OUT=results/nightly WORKFLOW=nightly-b200.yml
REGRESSION="A B200 night: regression or wrong output" IDLE="A B200 night: no runner took the job"

compare() {
    local bin=$1 status=0
    mkdir -p "$OUT/baseline"
    if [ ! -f "$RUN/traces.jsonl" ]; then conclude no-run "found no $RUN/traces.jsonl: the job's log says why"; return; fi
    if ! gh release download "$RELEASE" --pattern "$ASSET" --dir "$OUT" --clobber 2> "$OUT/gh.txt"; then
        if ! grep -qi 'release not found\|no assets' "$OUT/gh.txt"; then cat "$OUT/gh.txt" >&2; exit 1; fi
        # A run without a baseline still has to be right.
        "$bin/bakeoff" verify "$RUN" > "$OUT/comparison.txt" 2>&1 || status=$?
        if [ "$status" = 0 ]; then conclude first "no baseline yet: this run becomes the first"; else conclude regression "no baseline yet, and the run does not verify"; fi
        return
    fi
    tar --extract --gzip --no-same-owner --directory "$OUT/baseline" --file "$OUT/$ASSET"
    "$bin/bakeoff" compare "$OUT/baseline" "$RUN" > "$OUT/comparison.txt" 2>&1 || status=$?
    case $status in
        0) "$bin/bakeoff" verify "$RUN" >> "$OUT/comparison.txt" 2>&1 || status=$?
           if [ "$status" = 0 ]; then conclude same "nothing slower than the last night"; else conclude regression "the run does not verify"; fi ;;
        1) conclude regression "a wrong output, or a cell slower than the last night" ;;
        3) conclude incomparable "not one cell could be compared" ;;
        *) cat "$OUT/comparison.txt" >&2; exit "$status" ;;
    esac
}

conclude() {
    echo "$1" > "$OUT/outcome"
    { echo "## $1: $2"; echo; echo '```'; LC_ALL=C head -c 60000 "$OUT/comparison.txt" 2> /dev/null || true; echo '```'; } > "$OUT/body.md"
    cat "$OUT/body.md" >> "${GITHUB_STEP_SUMMARY:-/dev/stdout}"
}

publish() {
    mkdir -p "$OUT"
    local outcome; outcome=$(cat "$OUT/outcome" 2> /dev/null || echo broken)
    if [ "$outcome" = broken ]; then echo "The comparison did not end: its job's log says why." > "$OUT/body.md"; fi
    case $outcome in
        same | first) baseline; close_issue "$REGRESSION" "$outcome: the night of $(date -u +%F)" ;;
        regression | incomparable | no-run | broken) open_issue "$REGRESSION" "$OUT/body.md" ;;
        *) echo ".ci/nightly.sh: found the outcome '$outcome', expected one of those at the head of this file" >&2; exit 2 ;;
    esac
    # Whoever watches the workflow sees the night's colour as well.
    case $outcome in regression | incomparable | no-run | broken) exit 1 ;; esac
}

baseline() {
    tar --create --gzip --directory "$RUN" --file "$OUT/$ASSET" --exclude=report --exclude=logs --exclude=build .
    gh release view "$RELEASE" > /dev/null 2>&1 ||
        gh release create "$RELEASE" --prerelease --title "rolling baseline of the B200 nights" --notes "The last night without a regression."
    gh release upload "$RELEASE" "$OUT/$ASSET" --clobber
}

watch() {
    local state; state=$(gh run list --workflow "$WORKFLOW" --event schedule --limit 1 --json status --jq '.[0].status // "none"')
    case $state in
        completed | in_progress) close_issue "$IDLE" "a runner took the last night's job" ;;
        *) mkdir -p "$OUT"
           printf 'Hours after its start the last run of %s is still `%s`. Is the runner on line, and does it have the label `b200`?\n' "$WORKFLOW" "$state" > "$OUT/idle.md"
           open_issue "$IDLE" "$OUT/idle.md"; exit 1 ;;
    esac
}

number_of() { gh issue list --state open --search "in:title \"$1\"" --json number,title --jq "[.[] | select(.title == \"$1\")][0].number // empty"; }

# One open issue for one cause: further nights are comments on it.
open_issue() {
    local number; number=$(number_of "$1")
    if [ -n "$number" ]; then gh issue comment "$number" --body-file "$2"; else gh issue create --title "$1" --body-file "$2"; fi
}

close_issue() {
    local number; number=$(number_of "$1")
    if [ -n "$number" ]; then gh issue close "$number" --comment "$2"; fi
}

case ${1:-} in
    compare) compare "${2:?the folder that holds bakeoff}" ;;
    publish) publish ;;
    watch) watch ;;
    *) sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
