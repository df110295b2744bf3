#!/usr/bin/env bash
# Makes what ships for the default model: data, experts, calibration, and the table of losses.
#
#   tools/train_smollm2.sh FOLDER          (FOLDER: where data and adapters are made)
#
# Every line is an ordinary command that goes on where it stopped, so this may be interrupted and typed again; the
# training itself keeps a checkpoint every 20 steps. The sizes are those of one CPU core with AMX (about forty
# minutes). On a GPU the same command takes the GPU: raise STEPS (SHARED is two thirds of it), ROWS, BATCH and MICRO, as in
#
#   STEPS=420 ROWS=14000 WINDOWS=1,1,1,2,3 BATCH=32 MICRO=32 tools/train_smollm2.sh FOLDER     (8 minutes of an H100)
#   STEPS=2700 ROWS=175000 BATCH=64 MICRO=64 tools/train_smollm2.sh FOLDER                     (an hour)
#
# and run it in pieces of any length with `timeout 600 tools/train_smollm2.sh FOLDER`, as often as it takes.
set -euo pipefail
work=${1:?usage: tools/train_smollm2.sh FOLDER}
steps=${STEPS:-300}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p "$work/adapters"
cd "$work" # so that cards name files as they are called here

# Freely licensed text, and rows out of it that only a memory of the text before can answer.
[ -e corpus/sources.json ] || python "$root/tools/debian_text.py" --out corpus
harness synth --recipe recall --set documents=corpus/train.jsonl --set windows="${WINDOWS:-1,1,1,1,2}" \
    --count "${ROWS:-4000}" --out recall

# Experts for ratios 2 to 256, which are all that an interval of 256 tokens allows: at 256 one entry an interval is
# left, under which two million tokens fit the window, so that 512 and 1,024 would have nothing to do.
harness fit -m lora_experts --data recall --min-length 64 --max-length 1024 --dtype bfloat16 \
    --interval 256 --start last --sinks 1 --objective distill --draws 2 --train-ratios 2,4,8,16,32,64,128,256 \
    --rank 8 --batch-size "${BATCH:-2}" --micro-batch "${MICRO:-1}" --learning-rate 1e-3 --warmup-steps 10 --trainer adam_beta2=0.98 \
    --max-steps "$steps" --shared-steps "${SHARED:-$((steps * 2 / 3))}" --save-every 20 --out adapters/experts

# What ships: the experts without their checkpoints, and the calibrations that texts of 1 to 2 windows ask for: of the
# layers that two_pass listens to by default, which were found on this model, and of all, the paper's.
ship=$root/baselines/adapters/smollm2/lora_experts
rm -rf "$ship" && mkdir -p "$ship"
cp -r adapters/experts/{adapter.json,loss.jsonl,loss.png,expert-*} "$ship"
cp corpus/sources.json "$ship/../corpus.json"
for layers in all "${LAYERS:-13-18}"; do
    harness fit -m two_pass --adapter "$ship" --dtype bfloat16 --intervals "${INTERVALS:-2-64}" --contexts 12 \
        --first-layers "$layers" --out "adapters/two_pass-$layers"
    python "$root/tools/ship_calibration.py" "adapters/two_pass-$layers" --default "${WHY:-chosen on 12 passkeys of 3,400 tokens in a window of 2,048; see docs/methods/two_pass.md}"
done

# Loss after a condensed context, on texts and sentences that were held out.
python "$root/tools/memory_loss.py" --texts corpus/heldout.jsonl --weights lora_experts="$ship" \
    --weights "one expert for all=$ship@16" --each 12 --dtype bfloat16 --out "$root/baselines/smollm2/interval-256"

# The same after many intervals, which the experts were not trained on, by all and by half of what they learned.
python "$root/tools/memory_loss.py" --texts corpus/heldout.jsonl --untrained last --weights lora_experts="$ship" \
    --weights "lora_experts, half=$ship*0.5" --each 6 --windows 28 --ratios 8,32 --dtype bfloat16 \
    --out "$root/baselines/smollm2/interval-256-long"
