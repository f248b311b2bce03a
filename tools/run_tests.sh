#!/usr/bin/env bash
# Run the test suite in the environment that tools/setup_env.sh makes.
#
#   tools/run_tests.sh [ARGUMENTS OF pytest]          e.g. tools/run_tests.sh tests/layers -x
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

bash "$ROOT/tools/setup_env.sh"
cd "$ROOT"
exec "$VENV/bin/python" -m pytest "$@"
