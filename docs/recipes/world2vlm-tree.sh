#!/usr/bin/env bash
# A tree that World2VLM's own scripts rendered, asked twice: by its rules, and by ours.
#
#   DETECTOR=zero-shot:model=IDEA-Research/grounding-dino-tiny world2vlm-tree.sh TREE [OUT]
#
# TREE and OUT must lie under the working directory. Variables: SEED DETECTOR.
set -euo pipefail

TREE=${1:?name a tree of bundles}
OUT=${2:-relabelled}
SEED=${SEED:-0}
: "${DETECTOR:?name a detector and its weights, e.g. zero-shot:model=FOLDER}"
mkdir -p "$OUT"

# Items that had to be skipped (exit 3) are listed and hold up nothing.
run() {
    local code=0
    w2v "$@" || code=$?
    return $((code == 3 ? 0 : code))
}

# As published: the tree's own boxes, the original's rules and counts, its faults included.
w2v build-tasks "$TREE" --compat world2vlm --seed "$SEED" >"$OUT/as_published.jsonl"

# Ours: annotate writes its boxes beside the frames, so it gets a tree of its own. Hard links take
# no room, and w2v replaces files instead of writing into them: the original stays as it is.
if [[ ! -d $OUT/tree ]]; then
    rm -rf "$OUT/.tree.part"
    cp -al "$TREE/." "$OUT/.tree.part" 2>/dev/null || cp -a "$TREE/." "$OUT/.tree.part"
    mv "$OUT/.tree.part" "$OUT/tree"
fi
run annotate "$OUT/tree" --detector "$DETECTOR" \
    --summary "$OUT/boxed.summary.json" >"$OUT/boxed.jsonl"
w2v build-tasks "$OUT/boxed.jsonl" --seed "$SEED" |
    w2v validate --seed "$SEED" --rejects "$OUT/rejects.jsonl" \
        --report "$OUT/checks.json" >"$OUT/questions.jsonl"

# Rows for the trainer that the paper used.
w2v convert "$OUT/questions.jsonl" --to llama-factory -o "$OUT/llama-factory/questions.jsonl"

# What our checks say of the published rules. They may well fail (exit 4); that is a result.
w2v validate "$OUT/as_published.jsonl" --balance none --max-rejects 1 \
    --report "$OUT/as_published.checks.json" >"$OUT/as_published.good.jsonl" || (($? == 4))
