#!/usr/bin/env bash
# Photographs with depth to checked questions: each is warped by its depth to where a camera goes.
#
#   DETECTOR=zero-shot:model=IDEA-Research/grounding-dino-tiny photos.sh PHOTOS [OUT]
#
# PHOTOS holds 7-Scenes, ScanNet, TUM or transforms.json pictures. PHOTOS and OUT must lie under
# the working directory: records name pictures relative to it. Variables: SIZE SEED DETECTOR.
set -euo pipefail

PHOTOS=${1:?name a folder of photographs with depth}
OUT=${2:-warped}
SEED=${SEED:-0}
: "${DETECTOR:?name a detector and its weights, e.g. zero-shot:model=FOLDER}"
mkdir -p "$OUT"

# Items that had to be skipped (exit 3) are listed and hold up nothing.
run() {
    local code=0
    w2v "$@" || code=$?
    return $((code == 3 ? 0 : code))
}

run scenes "$PHOTOS" --rejects "$OUT/unread.jsonl" >"$OUT/scenes.jsonl"

# All frames are kept (the default): a tracker needs those between the ends.
run render "$OUT/scenes.jsonl" --teacher depth-warp --size "${SIZE:-384x384}" --seed "$SEED" \
    -o "$OUT" --summary "$OUT/clips.summary.json" >"$OUT/clips.jsonl"

# Finding objects is the slow part, so its result gets a file of its own.
run annotate "$OUT/clips.jsonl" --detector "$DETECTOR" \
    --summary "$OUT/boxed.summary.json" >"$OUT/boxed.jsonl"
w2v build-tasks "$OUT/boxed.jsonl" --seed "$SEED" |
    w2v validate --seed "$SEED" --rejects "$OUT/rejects.jsonl" \
        --report "$OUT/checks.json" >"$OUT/questions.jsonl"

w2v report "$OUT" -o "$OUT/report.html"
