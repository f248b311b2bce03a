#!/usr/bin/env bash
# Train as a Slurm job.
#
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [ARGUMENTS OF tools/train.py]
#
# Environment: GPUS (8), GPUS_PER_NODE (8, or GPUS where that is less), CPUS_PER_TASK (5), SRUN_ARGS,
# PYTHON.
#
# example:
#   CONFIG=configs/cbn/mask-rcnn_r50_fpn_4conv1fc_cbn_4xb4-1x_coco.py
#   GPUS=4 bash tools/slurm_train.sh PARTITION cbn $CONFIG work_dirs/cbn
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

(($# >= 4)) || fail 'usage: tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [ARGUMENTS]'
submit "$1" "$2" train.py "$3" --work-dir "$4" "${@:5}"
