#!/usr/bin/env bash
# Simulated rooms to checked questions, with nothing to download and exact truth for every label.
#
#   sim-questions.sh [OUT]     variables: SCENES SIZE SEED TEACHER WORKERS
#
# Kill it, and run it again: it goes on where it was. Any number of workers gives the same bytes.
set -euo pipefail

OUT=${1:-rooms}
SEED=${SEED:-0}
WORKERS=${WORKERS:-$(getconf _NPROCESSORS_ONLN)}

# One worker keeps one core busy; libraries that start threads of their own only slow the others.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
mkdir -p "$OUT"

# Items that had to be skipped (exit 3) are listed and hold up nothing.
run() {
    local code=0
    w2v "$@" || code=$?
    return $((code == 3 ? 0 : code))
}

# The oracle reads what it needs off the first and the last frame, so no other is rendered.
render=(render --teacher "${TEACHER:-sim}" --scenes "${SCENES:-200}" --size "${SIZE:-256x256}"
    --frames ends --seed "$SEED" -o "$OUT" --root "$OUT")

workers=()
trap 'kill "${workers[@]}" 2>/dev/null || true' EXIT
for ((k = 0; k < WORKERS; k++)); do
    w2v "${render[@]}" --shard "$k/$WORKERS" --quiet >/dev/null &
    workers+=($!)
done
for worker in "${workers[@]}"; do wait "$worker" || (($? == 3)); done

# The same command once more, without --shard, prints the lines of everything that is done.
run "${render[@]}" --summary "$OUT/clips.summary.json" >"$OUT/clips.jsonl"
run annotate "$OUT/clips.jsonl" --detector oracle --root "$OUT" |
    w2v build-tasks --seed "$SEED" --root "$OUT" |
    w2v validate --seed "$SEED" --root "$OUT" --rejects "$OUT/rejects.jsonl" \
        --report "$OUT/checks.json" >"$OUT/questions.jsonl"

w2v report "$OUT" -o "$OUT/report.html" --root "$OUT"
