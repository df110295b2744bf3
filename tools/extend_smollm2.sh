#!/usr/bin/env bash
# Extends the default model from 8,192 tokens to 16,384 and on to 32,768, and asks what came of it.
#
#   tools/extend_smollm2.sh FOLDER          (FOLDER: where data, adapters and runs are made)
#
# Every line is an ordinary command that goes on where it stopped. The sizes are those of one CPU core: dialogues of
# under a thousand tokens, with positions that jump inside the window (PoSE). On a GPU train on the length itself:
#
#   POSE=0 PIECES=14000 STEPS=400 BATCH=8 RATE=2e-4 EXTRA=--recompute tools/extend_smollm2.sh FOLDER
#
# where the second stage takes pieces of twice the size. That command was not tried on a GPU.
set -euo pipefail
work=${1:?usage: tools/extend_smollm2.sh FOLDER}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
pose=${POSE:-2} steps=${STEPS:-50} pieces=${PIECES:-256,384,512}
mkdir -p "$work"
cd "$work" # so that cards name files as they are called here

[ -e corpus/sources.json ] || python "$root/tools/debian_text.py" --out corpus
longer=$pieces
[ "$pose" -gt 0 ] || longer=$((pieces * 2))
for stage in "16384 $pieces 14" "32768 $longer 32"; do
    read -r window sizes seed <<<"$stage"
    harness synth --recipe recall --set documents=corpus/train.jsonl --set form=dialogues --set pieces="$sizes" \
        --seed "$seed" --count "${ROWS:-400}" --out "rows-$window"
done

fit() { # fit WINDOW STEPS RATE [FLAGS]
    harness fit -m rope_scaling --to-window "$1" --pose "$pose" --data "rows-$1" --min-length 64 --max-length "$1" \
        --chat-prompts --dtype bfloat16 --batch-size "${BATCH:-1}" --learning-rate "$3" --warmup-steps 2 --max-steps "$2" \
        --save-every 5 --save-dtype bfloat16 ${EXTRA:-} --out "a$1" "${@:4}"
}
fit 16384 "$steps" "${RATE:-1e-3}"
fit 32768 "$((steps * 2 / 5))" "${RATE2:-5e-4}" --adapter a16384

# Trained, the base adjusted only, and the scaling that is usual without training.
for task in passkey niah; do
    asked=(--task $task --set $task.lengths=4096,8192,16384 --set $task.depths=10,50,90 --dtype bfloat16 --seed 3)
    harness run -m rope_scaling --adapter a16384 "${asked[@]}"
    harness run -m rope_scaling --adapter a32768 "${asked[@]}"
    harness run -m rope_scaling --window 16384 "${asked[@]}"
    harness run -m position_scaling --rope ntk --factor 2 "${asked[@]}"
    harness run -m plain "${asked[@]}"
done
harness report runs
