"""The recipe of docs/architecture.md: a norm that enters the list gets the tests of every norm."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('mmdet')

ROOT = Path(__file__).resolve().parents[2]
FILES = (
    'tests/layers/test_export.py',
    'tests/layers/test_local_state.py',
    'tests/layers/test_persistence.py',
    'tests/layers/test_special_inputs.py',
    'tests/layers/test_statistics_in_use.py',
    'tests/test_registration.py',
    'tests/integration/test_folding.py',
    'tests/regimes/test_bad_statistics.py',
    'tests/regimes/test_checkpointing.py',
)


@pytest.mark.slow
def test_a_toy_gets_the_tests_of_every_norm():
    """:mod:`tests.helpers.toy_norm` is written by the recipe, and nothing else knows of it."""
    result = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-p', 'tests.helpers.toy_norm', '-k', 'Toy', *FILES],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    assert int(re.search(r'(\d+) passed', result.stdout)[1]) >= 20
