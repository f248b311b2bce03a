"""Training from checkpoints that are wrong."""

from pathlib import Path

import pytest

from tests.helpers.payload import save_payload
from tests.helpers.wrong_input import TRAIN, Case, half_fitting, options, resnet_weights, saved_and_cut, write

LOAD = options('load_from=some.pth')
CODE = ('some.pth', 'pathlib.Path', '--trust-checkpoint')


def last_with_code(folder: Path) -> None:
    write('work_dirs/config/last_checkpoint', 'some.pth')(folder)
    save_payload(folder, optimizer={})


CASES = [
    Case('load-from-nowhere', ('some.pth', 'no such file'), arguments=LOAD),
    Case(
        'load-from-cut', ('some.pth is not a whole checkpoint', 'again'), arguments=LOAD, spoil=saved_and_cut
    ),
    Case(
        'load-from-another-model',
        ('some.pth has none of', 'another architecture'),
        arguments=LOAD,
        spoil=resnet_weights,
    ),
    Case(
        'resume-from-nowhere', ('some.pth', 'no such file'), arguments=('config.py', '--resume', 'some.pth')
    ),
    Case(
        'resume-from-weights',
        ('some.pth holds weights alone', 'load_from=some.pth'),
        arguments=('config.py', '--resume', 'some.pth'),
        spoil=resnet_weights,
    ),
    Case(
        'resume-from-another-model',
        ('some.pth does not fit', 'the config'),
        arguments=('config.py', '--resume', 'some.pth'),
        spoil=half_fitting,
    ),
    Case(
        'resume-from-lost-checkpoint',
        ('work_dirs/config/last_checkpoint', 'epoch_3.pth', '--resume work_dirs/config/epoch_N.pth'),
        arguments=('config.py', '--resume'),
        spoil=write('work_dirs/config/last_checkpoint', 'work_dirs/config/epoch_3.pth'),
    ),
    Case('load-from-code', CODE, arguments=LOAD, spoil=save_payload),
    Case('resume-from-code', CODE, arguments=('config.py', '--resume', 'some.pth'), spoil=save_payload),
    Case('resume-from-last-with-code', CODE, arguments=('config.py', '--resume'), spoil=last_with_code),
    Case(
        'pretrained-from-code',
        CODE,
        config='model = dict(backbone=dict(init_cfg=dict('
        "_delete_=True, type='Pretrained', checkpoint='some.pth')))\n",
        spoil=save_payload,
    ),
    Case(
        'pretrained-from-nowhere',
        ('R50-wc_mmdet3.pth', 'no such file'),
        config='model = dict(backbone=dict(init_cfg=dict('
        "_delete_=True, type='Pretrained', checkpoint='R50-wc_mmdet3.pth')))\n",
    ),
]


@pytest.mark.parametrize('case', CASES, ids=lambda case: case.name)
def test_ends_with_one_message(case, check):
    check(TRAIN, case)
