"""Converting checkpoints that are wrong, or to places where nothing can be written."""

from pathlib import Path

import pytest
import torch
from torchvision.models import resnet50

from tests.helpers.machine import limit_files
from tests.helpers.wrong_input import Case, each_of, saved_and_cut, write

pytestmark = pytest.mark.slow

CONVERT = 'tools/convert_checkpoint.py'


def released(folder: Path) -> None:
    """The authors' backbone, which can be converted."""
    torch.save(resnet50().state_dict(), folder / 'R50-wc.pth')


CASES = [
    Case('convert-nothing', ('some.pth', 'no such file'), ('some.pth', 'new.pth')),
    Case(
        'convert-a-page',
        ('some.pth is a web page', 'browser'),
        ('some.pth', 'new.pth'),
        spoil=write('some.pth', '<html>'),
    ),
    Case(
        'convert-half',
        ('some.pth is not a whole checkpoint', 'again'),
        ('some.pth', 'new.pth'),
        spoil=saved_and_cut,
    ),
    Case(
        'to-bn-without-a-config',
        ('there is no config no.py', 'configs/'),
        ('--to-bn', 'no.py', 'R50-wc.pth', 'new.pth'),
        spoil=released,
    ),
    Case(
        'to-bn-of-nothing',
        ('no.pth', 'no such file', 'another checkpoint'),
        ('--to-bn', 'config.py', 'no.pth', 'new.pth'),
    ),
    Case(
        'to-bn-of-another-model',
        ('R50-wc.pth', 'another architecture', 'config that it was trained with'),
        ('--to-bn', 'config.py', 'R50-wc.pth', 'new.pth'),
        spoil=released,
    ),
    Case(
        'convert-below-a-file',
        ('config.py', 'a file is in the place of a folder', 'another path'),
        ('R50-wc.pth', 'config.py/new.pth'),
        spoil=released,
    ),
    Case(
        'convert-into-a-folder',
        ('shapes', 'is a folder', 'name of a file'),
        ('R50-wc.pth', 'shapes'),
        spoil=released,
    ),
    Case(
        'convert-on-a-full-disk',
        ('cannot write new.pth', 'make room'),
        ('R50-wc.pth', 'new.pth'),
        spoil=released,
        prepare=limit_files,
    ),
]


@each_of(CASES)
def test_ends_with_one_message(case, check):
    check(CONVERT, case)
