#!/usr/bin/env bash
# Evaluate in several processes: one for each GPU, or any number on a machine without GPUs.
#
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [ARGUMENTS OF tools/test.py]
#
# GPUS counts the processes of this machine. For several machines, start it on each of them with
# NNODES, NODE_RANK, MASTER_ADDR and PORT set. PYTHON names another interpreter.
#
# example:
#   CONFIG=configs/cbn/mask-rcnn_r50_fpn_4conv1fc_cbn_4xb4-1x_coco.py
#   bash tools/dist_test.sh $CONFIG work_dirs/cbn/epoch_12.pth 4
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

(($# >= 3)) || fail 'usage: tools/dist_test.sh CONFIG CHECKPOINT GPUS [ARGUMENTS OF tools/test.py]'
distribute test.py "$3" "$1" "$2" "${@:4}"
