#!/usr/bin/env bash
# Run the test suite in the environment that tools/setup_env.sh makes, in a process of one thread a core.
#
#   tools/run_tests.sh [ARGUMENTS OF pytest]
#
# example:
#   bash tools/run_tests.sh tests/layers -x
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

bash "$ROOT/tools/setup_env.sh"
cd "$ROOT"
# Tests of one file share their fixtures, so they stay in one process.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec "$VENV/bin/python" -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder "$@"
