#!/usr/bin/env bash
# Test, profile and measure the layers on a GPU, within 8 minutes: a page and a JSON file in OUT.
#
#   tools/gpu_report.sh OUT [--device cpu] [--quick] [--commit NAME]
#
# Needs a Python with torch, numpy and pytest, and nothing else; PYTHON names one other than python3.
#
# example:
#   bash tools/gpu_report.sh work_dirs/gpu_report
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

choose_python
exec "$PYTHON" -m experiments.gpu_report "$@"
