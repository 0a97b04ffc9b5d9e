#!/usr/bin/env bash
# The paper's two stages on a student of yours, and what each of them brought.
#
#   world2vlm-train.sh QUESTIONS TEST [OUT]     variables: STUDENT LAUNCH ROOT
#
# QUESTIONS and TEST are files of w2v validate that share no scene. LAUNCH starts w2v on several
# GPUs, e.g. LAUNCH="accelerate launch --config_file accelerate/zero2.yaml -m". ROOT is what the
# pictures' paths are relative to. Kill it, and run it again: it goes on where it was.
set -euo pipefail

QUESTIONS=${1:?name the questions to train on}
TEST=${2:?name the questions to ask afterwards}
OUT=${3:-runs}
STUDENT=${STUDENT:-Qwen/Qwen2.5-VL-7B-Instruct}
ROOT=${ROOT:-$(dirname "$QUESTIONS")}
read -ra launch <<<"${LAUNCH:-}"
mkdir -p "$OUT"

# Stage I: right answers, both directions alike (arXiv 2604.26934, 3.4).
"${launch[@]}" w2v sft "$QUESTIONS" --student "$STUDENT" --recipe world2vlm \
    --root "$ROOT" -o "$OUT/sft"

# Stage II: the student's own answers, graded, on a balanced thousand (3.5, appendix C).
w2v validate "$QUESTIONS" --balance grpo --root "$ROOT" >"$OUT/grpo.jsonl"
"${launch[@]}" w2v grpo "$OUT/grpo.jsonl" --student "$OUT/sft" --recipe world2vlm \
    --root "$ROOT" -o "$OUT/grpo"

# One checkpoint that any tool loads.
[[ -e $OUT/merged ]] || w2v merge "$OUT/grpo" -o "$OUT/merged"

w2v eval "$TEST" --student "$STUDENT" --root "$ROOT" -o "$OUT/eval/base" >/dev/null
w2v eval "$TEST" --student "$OUT/sft" --root "$ROOT" -o "$OUT/eval/sft" >/dev/null
w2v eval "$TEST" --student "$OUT/merged" --root "$ROOT" -o "$OUT/eval/grpo" >/dev/null
w2v compare "$OUT/eval/base" "$OUT/eval/sft" "$OUT/eval/grpo"
