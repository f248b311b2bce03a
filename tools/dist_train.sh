#!/usr/bin/env bash
# Train in several processes: one for each GPU, or any number on a machine without GPUs.
#
#   tools/dist_train.sh CONFIG GPUS [ARGUMENTS OF tools/train.py]
#
# GPUS counts the processes of this machine. For several machines, start it on each of them with
# NNODES, NODE_RANK, MASTER_ADDR and PORT set. PYTHON names another interpreter.
#
# example:
#   CONFIG=configs/cbn/mask-rcnn_r50_fpn_4conv1fc_cbn_4xb4-1x_coco.py
#   bash tools/dist_train.sh $CONFIG 4 --work-dir work_dirs/cbn
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

(($# >= 2)) || fail 'usage: tools/dist_train.sh CONFIG GPUS [ARGUMENTS OF tools/train.py]'
distribute train.py "$2" "$1" "${@:3}"
