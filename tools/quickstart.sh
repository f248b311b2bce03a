#!/usr/bin/env bash
# From nothing to a trained detector: make the environment, generate the shapes data set, train a
# Mask R-CNN with AvgBN on it, evaluate it, and show what it learnt.
#
# Uses every GPU, or two processes on the CPU. A run that is there already is evaluated again. Takes
# MMDET_CBN_STACK and PYTHON as tools/setup_env.sh does.
#
# example:
#   bash tools/quickstart.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

CONFIG=configs/quickstart/mask-rcnn_r18_fpn_4conv1fc_avgbn_shapes.py
DATA=data/shapes
SHAPES=(--train 500 --val 60 --seed 0 --size 128)
WORK=work_dirs/quickstart
[[ $STACK == default ]] || WORK+=-$STACK

bash "$ROOT/tools/setup_env.sh"
cd "$ROOT"
export PYTHON=$VENV/bin/python

"$PYTHON" -W ignore -m mmdet_cbn.data.shapes "$DATA" "${SHAPES[@]}"

GPUS=$("$PYTHON" -c 'import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)')
PROCESSES=$((GPUS > 0 ? GPUS : 2))

# What was trained, as text: another config or other data make another run.
recipe() {
    echo "${SHAPES[@]}"
    find configs/quickstart configs/_base_ -name '*.py' | sort | xargs cat
}

if [[ -f $WORK/train_seconds && $(<"$WORK/recipe.sha256") == "$(recipe | sha256sum)" ]]; then
    echo "== $WORK holds this run already; to train again, delete it"
else
    echo "== Training $CONFIG with $PROCESSES processes"
    rm -rf "$WORK"
    mkdir -p "$WORK"
    recipe | sha256sum >"$WORK/recipe.sha256"
    SECONDS=0
    bash tools/dist_train.sh "$CONFIG" "$PROCESSES" --work-dir "$WORK"
    echo "$SECONDS" >"$WORK/train_seconds"
fi

echo '== Evaluating'
SECONDS=0
bash tools/dist_test.sh "$CONFIG" "$(<"$WORK/last_checkpoint")" "$PROCESSES" \
    --work-dir "$WORK/test" --out "$WORK/predictions.pkl"
TEST_SECONDS=$SECONDS

PYTHONPATH=$ROOT "$PYTHON" -W ignore tools/quickstart_summary.py "$CONFIG" "$WORK" \
    --train-seconds "$(<"$WORK/train_seconds")" --test-seconds "$TEST_SECONDS"
