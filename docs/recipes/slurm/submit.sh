#!/usr/bin/env bash
# From scenes to checked questions on a cluster; prints the name and id of each job.
#
#   SCENES=2000 SHARDS=32 OUT=d submit.sh
#
# Activate the environment of w2v first: jobs inherit it. Set partition, account and the like
# with Slurm's own variables (SBATCH_PARTITION, SBATCH_ACCOUNT, SBATCH_TIMELIMIT …).
#
#   SCENES    number of simulated rooms, or a file or folder of scenes   200
#   SHARDS    tasks of each array; the result is the same for any number 8
#   OUT       folder for everything                                      d
#   ROOT      folder that paths in records are relative to               OUT, or . for photographs
#   TEACHER   world model                                                sim
#   DETECTOR  detector and tracker                                       oracle
#   SIZE      size of the frames                                         256x256
#   FRAMES    frames to store                                            ends for oracle, else all
#   SEED      another seed, other paths and questions                    0
#   RENDER_SBATCH, ANNOTATE_SBATCH   more options of sbatch, e.g. "--gpus=1 --cpus-per-task=8"
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SCENES=${SCENES:-200} SHARDS=${SHARDS:-8} OUT=${OUT:-d} SEED=${SEED:-0}
DETECTOR=${DETECTOR:-oracle}
read -ra render_sbatch <<<"${RENDER_SBATCH:-}"
read -ra annotate_sbatch <<<"${ANNOTATE_SBATCH:-}"

if [[ $SCENES =~ ^[0-9]+$ ]]; then
    scenes=(--scenes "$SCENES")
    ROOT=${ROOT:-$OUT} # so that the folder may be moved as it is
else
    scenes=("$SCENES")
    ROOT=${ROOT:-.}
fi
if [[ $DETECTOR == oracle* ]]; then
    FRAMES=${FRAMES:-ends}
else
    FRAMES=${FRAMES:-all} # a tracker needs those between the ends
fi

most=$(scontrol show config | awk '$1 == "MaxArraySize" { print $3 }')
if ((SHARDS > most)); then
    echo "SHARDS=$SHARDS, but an array may have $most tasks here; fewer give the same rows" >&2
    exit 2
fi

# submit NAME AFTER OPTION…: print the id of a job that waits for another, if AFTER names one.
# Where that one fails, Slurm would let it wait for ever.
submit() {
    local name=$1 after=${2:+--dependency=afterok:$2 --kill-on-invalid-dep=yes} log id
    shift 2
    [[ $* == *--array=* ]] && log=$name-%A_%a.log || log=$name-%j.log
    # shellcheck disable=SC2086  # two options, or none
    id=$(sbatch --parsable --job-name="w2v-$name" --output="$OUT/log/$log" $after "$@")
    echo "${id%%;*}" # a federation adds the name of the cluster
}

mkdir -p "$OUT/log"
array=--array=0-$((SHARDS - 1))
shared=(--root "$ROOT" --seed "$SEED")
render=(render "${scenes[@]}" --teacher "${TEACHER:-sim}" --size "${SIZE:-256x256}"
    --frames "$FRAMES" -o "$OUT" "${shared[@]}")
annotate=(annotate "$OUT/clips.jsonl" --detector "$DETECTOR" --root "$ROOT")

rendered=$(submit render "" "$array" "${render_sbatch[@]}" "$here/array.sbatch" "${render[@]}")
clips=$(submit clips "$rendered" "$here/merge.sbatch" "$OUT/clips.jsonl" "${render[@]}")
annotated=$(submit annotate "$clips" "$array" "${annotate_sbatch[@]}" "$here/array.sbatch" \
    "${annotate[@]}")
boxed=$(submit boxed "$annotated" "$here/merge.sbatch" "$OUT/boxed.jsonl" "${annotate[@]}")
asked=$(submit questions "$boxed" "$here/questions.sbatch" "$OUT/boxed.jsonl" "$OUT" "${shared[@]}")

printf '%s %s\n' render "$rendered" clips "$clips" annotate "$annotated" boxed "$boxed" \
    questions "$asked"
