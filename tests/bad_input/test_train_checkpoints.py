"""Training from checkpoints that are wrong."""

from pathlib import Path

import torch

from tests.helpers.payload import save_payload
from tests.helpers.wrong_input import (
    TRAIN,
    Case,
    each_of,
    half_fitting,
    options,
    resnet_weights,
    saved_and_cut,
    write,
)

LOAD = options('load_from=some.pth')
CODE = ('some.pth', 'pathlib.Path', '--trust-checkpoint')


LAST = 'work_dirs/config/last_checkpoint'


def write_bytes(folder: Path, content: bytes) -> None:
    (folder / LAST).parent.mkdir(parents=True)
    (folder / LAST).write_bytes(content)


def trained_with_sgd(folder: Path) -> None:
    """A checkpoint of the model of whole.py, as MMEngine saves it."""
    from mmengine.config import Config
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope('mmdet')
    cfg = Config.fromfile(folder / 'whole.py')
    model = MODELS.build(cfg.model)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).state_dict()
    torch.save({'state_dict': model.state_dict(), 'meta': {}, 'optimizer': optimizer}, folder / 'some.pth')


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
        'resume-with-another-optimizer',
        ('some.pth', 'its optimizer has no betas, eps', 'AdamW', 'load_from=some.pth'),
        arguments=('config.py', '--resume', 'some.pth'),
        config="optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=1e-3))\n",
        spoil=trained_with_sgd,
    ),
    Case(
        'resume-with-other-groups',
        ('some.pth', 'its optimizer has 1 groups', 'load_from=some.pth'),
        arguments=('config.py', '--resume', 'some.pth'),
        config='optim_wrapper = dict(paramwise_cfg=dict(bias_lr_mult=2.0))\n',
        spoil=trained_with_sgd,
    ),
    *(
        Case(
            f'resume-from-{name}',
            ('work_dirs/config/last_checkpoint', what, '--resume work_dirs/config/epoch_N.pth'),
            arguments=('config.py', '--resume'),
            spoil=spoil,
        )
        for name, what, spoil in (
            ('binary', 'no text', lambda folder: write_bytes(folder, b'\xff\xfe\x00')),
            ('text-of-many-pages', 'hello', lambda folder: write_bytes(folder, b'hello ' * 9999)),
            ('folder', 'is a folder', lambda folder: (folder / LAST).mkdir(parents=True)),
            ('a-name-with-zero', 'not there', lambda folder: write_bytes(folder, b'a\0b')),
        )
    ),
    Case(
        'resume-from-dead-address',
        ('cannot load http://127.0.0.1:9/epoch_1.pth', 'refused', 'download the checkpoint'),
        arguments=('config.py', '--resume'),
        spoil=lambda folder: write_bytes(folder, b'http://127.0.0.1:9/epoch_1.pth'),
        runs=True,
    ),
    Case(
        'pretrained-from-unknown-model',
        ('cannot load torchvision://resnet5', 'check the address'),
        config='model = dict(backbone=dict(init_cfg=dict('
        "_delete_=True, type='Pretrained', checkpoint='torchvision://resnet5')))\n",
        runs=True,
    ),
    Case(
        'pretrained-from-nowhere',
        ('R50-wc_mmdet3.pth', 'no such file'),
        config='model = dict(backbone=dict(init_cfg=dict('
        "_delete_=True, type='Pretrained', checkpoint='R50-wc_mmdet3.pth')))\n",
    ),
]


@each_of(CASES)
def test_ends_with_one_message(case, check):
    check(TRAIN, case)
