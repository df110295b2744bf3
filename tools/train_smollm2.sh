#!/usr/bin/env bash
# Makes what ships for the default model: its training data, both kinds of adapters, and the table of losses.
#
#   tools/train_smollm2.sh FOLDER
#
# Every line is an ordinary command that goes on where it stopped, so this may be interrupted and typed again.
# The sizes are those of two CPU cores (about two hours); with a GPU raise STEPS and the interval.
set -euo pipefail
work=${1:?usage: tools/train_smollm2.sh FOLDER}
steps=${STEPS:-170}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p "$work"

# Freely licensed text, the stand-in for RedPajama, and what the model writes itself.
[ -e "$work/corpus/sources.json" ] || python tools/debian_text.py --out "$work/corpus"
harness synth --recipe thesis --count 40 --out "$work/synth/thesis"
harness synth --recipe experts --count 60 --items 32 --out "$work/synth/experts"

# On two cores the papers' interval of 1,024 would allow too few steps: a quarter of it learns the same task.
learn=(--interval 256 --split-documents --train-ratios 2,4,8,16,32,64,128 --beacon-token $'\n' --skip-first
    --batch-size 2 --warmup-steps 8 --save-every 20)
harness fit -m lora_experts "${learn[@]}" --data "$work/corpus/train.jsonl" --min-length 1024 --max-length 1024 \
    --rank 8 --learning-rate 2e-3 --max-steps "$steps" --shared-steps $((steps * 12 / 17)) \
    --out "$work/adapters/experts"
harness fit -m beacon "${learn[@]}" --data "$work/corpus/train.jsonl" --min-length 1024 --max-length 1024 \
    --learning-rate 3e-4 --max-steps $((steps * 3 / 10)) --out "$work/adapters/beacon"

python tools/memory_loss.py --texts "$work/corpus/heldout.jsonl" --out baselines/smollm2 \
    --weights "lora_experts=$work/adapters/experts" --weights "beacon=$work/adapters/beacon"

# What ships: the experts without their checkpoints, and the calibrations two_pass then needs.
ship=baselines/adapters/smollm2/lora_experts
rm -rf "$ship" && mkdir -p "$ship"
cp -r "$work"/adapters/experts/{adapter.json,loss.jsonl,loss.png,expert-*} "$ship"
HARNESS_CACHE="$work/cache" harness run --method two_pass --out "$work/runs"
cp "$work"/cache/calibrations/*.json baselines/calibrations/
