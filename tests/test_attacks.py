"""Each line of the table of attacks has its test, and each test of an attack its line."""

import re
from pathlib import Path

import pytest

from tests.attacks import ATTACKS

ROOT = Path(__file__).parent
OF_ATTACKS_ALONE = ['layers/test_foreign_calls.py', 'layers/test_numbers.py', 'regimes/test_fsdp.py']
OF_ATTACKS_ALONE += ['regimes/test_checkpointing.py']


def names_in(file: str) -> set[str]:
    found = re.findall(r'^def (test_\w+)', (ROOT / file).read_text(), re.MULTILINE)
    return {f'{file}::{name}' for name in found}


@pytest.mark.parametrize('attack', ATTACKS, ids=lambda attack: attack.what)
def test_a_line_has_its_test(attack):
    assert attack.test in names_in(attack.test.partition('::')[0])


@pytest.mark.parametrize('file', OF_ATTACKS_ALONE)
def test_a_test_has_its_line(file):
    assert names_in(file) <= {attack.test for attack in ATTACKS}
