#!/usr/bin/env bash
# Makes what ships for the default model: its training data, both kinds of adapters, the tables of losses.
#
#   tools/train_smollm2.sh FOLDER          (FOLDER: where data and adapters are made)
#
# Every line is an ordinary command that goes on where it stopped, so this may be interrupted and typed again.
# The sizes are those of two CPU cores (about two hours); with a GPU raise STEPS, the lengths and the interval.
set -euo pipefail
work=${1:?usage: tools/train_smollm2.sh FOLDER}
steps=${STEPS:-170}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p "$work"
cd "$work" # so that cards name files as they are called here

# Freely licensed text, the stand-in for RedPajama, and what the model writes itself.
[ -e corpus/sources.json ] || python "$root/tools/debian_text.py" --out corpus
harness synth --recipe thesis --count 40 --out synth/thesis
harness synth --recipe experts --count 60 --items 32 --out synth/experts

# On two cores the papers' interval of 1,024 would allow too few steps: a quarter of it learns the same task.
learn=(--data corpus/train.jsonl --split-documents --min-length 1024 --max-length 1024 --interval 256
    --train-ratios 2,4,8,16,32,64,128 --beacon-token $'\n' --skip-first --batch-size 2 --save-every 20)
harness fit -m lora_experts "${learn[@]}" --rank 8 --learning-rate 2e-3 --warmup-steps 8 \
    --max-steps "$steps" --shared-steps $((steps * 12 / 17)) --out adapters/experts
harness fit -m beacon "${learn[@]}" --learning-rate 3e-4 --warmup-steps 5 \
    --max-steps $((steps * 3 / 17)) --out adapters/beacon

# Loss after the condensed context, with the interval of the training and with the default one.
for interval in 256 1024; do
    python "$root/tools/memory_loss.py" --texts corpus/heldout.jsonl --interval $interval --continuation 256 \
        --weights lora_experts=adapters/experts --weights beacon=adapters/beacon \
        --out "$root/baselines/smollm2/interval-$interval"
done

# What ships: the experts without their checkpoints, and the calibration the main job then asks for.
ship=$root/baselines/adapters/smollm2/lora_experts
rm -rf "$ship" && mkdir -p "$ship"
cp -r adapters/experts/{adapter.json,loss.jsonl,loss.png,expert-*} "$ship"
harness run --method two_pass --alpha 3 --out runs
for file in $(grep -ho '[0-9a-f]\{24\}\.json' runs/two_pass-smollm2-*/run.json | sort -u); do
    cp "${HARNESS_CACHE:-$HOME/.cache/long-context-harness}/calibrations/$file" "$root/baselines/calibrations/"
done
