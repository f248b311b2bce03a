"""Training with configs and options that are wrong."""

import pytest

from tests.helpers.forked import ROOT
from tests.helpers.wrong_input import CBN, TRAIN, Case, norm, options, write

CASES = [
    Case('no-such-config', ('no config nowhere.py', 'configs/'), arguments=('nowhere.py',)),
    Case('config-is-folder', ('no config shapes', 'configs/'), arguments=('shapes',)),
    Case('syntax', ('config.py', 'SyntaxError', 'line 2'), config='model = dict(\n'),
    Case('undefined-name', ('config.py', 'NameError', 'ResNet50'), config='backbone = ResNet50\n'),
    Case(
        'missing-base',
        ('config.py', 'FileNotFoundError', 'base.py'),
        spoil=write('config.py', "_base_ = './base.py'\n"),
    ),
    Case(
        'missing-import',
        ('config.py', 'ImportError', 'mmdet_cbm'),
        config="custom_imports = dict(imports=['mmdet_cbm'])\n",
    ),
    Case(
        'not-a-config',
        ('config.txt', 'py/yml/yaml/json'),
        arguments=('config.txt',),
        spoil=write('config.txt', 'model = 1'),
    ),
    Case(
        'no-model',
        ('config.py does not define model, train_dataloader', '_base_'),
        spoil=write('config.py', 'work_dir = "w"\n'),
    ),
    Case(
        'empty-coco-root',
        ('COCO_ROOT', 'set but empty', 'unset it'),
        arguments=(str(ROOT / 'configs/cbn/faster-rcnn_r50_fpn_4conv1fc_cbn_4xb4-1x_coco.py'),),
        environment={'COCO_ROOT': ''},
    ),
    Case('option-without-value', ("'model.backbone'", 'KEY=VALUE'), arguments=options('model.backbone')),
    Case('option-brackets', ('brackets', '[1,2'), arguments=options('a=[1,2')),
    Case(
        'option-of-no-section',
        ('train_dataloder.batch_size=4', 'did you mean train_dataloader'),
        arguments=options('train_dataloder.batch_size=4'),
    ),
    Case(
        'option-below-a-number',
        ('model.backbone.depth.x=3', 'does not fit'),
        arguments=options('model.backbone.depth.x=3'),
    ),
    Case(
        'option-of-no-argument',
        ('MaskRCNN > ResNet', 'detph', 'build_functions.py', 'correct it in the config'),
        arguments=options('model.backbone.detph=50'),
    ),
    Case(
        'option-of-no-argument-of-norm',
        ('model.neck.norm_cfg', 'CBN', 'windw_size=8', 'window_size'),
        arguments=options('model.neck.norm_cfg.windw_size=8'),
        config=norm("type='CBN'") + CBN,
    ),
    Case(
        'auto-scale-without-base',
        ('--auto-scale-lr', 'base_batch_size=N'),
        arguments=('config.py', '--auto-scale-lr'),
        config='auto_scale_lr = dict(_delete_=True)\n',
    ),
    Case('amp-on-cpu', ('--amp', 'GPU'), arguments=('config.py', '--amp')),
    Case(
        'work-dir-is-file',
        ('--work-dir config.py', 'folder'),
        arguments=('config.py', '--work-dir', 'config.py'),
    ),
    Case(
        'work-dir-below-file',
        ('--work-dir config.py/run', 'folder'),
        arguments=('config.py', '--work-dir', 'config.py/run'),
    ),
    Case('unknown-option', ('unrecognized arguments: --gpus 4',), arguments=('config.py', '--gpus', '4')),
    Case(
        'unknown-launcher',
        ("invalid choice: 'torchrun'", 'pytorch'),
        arguments=('config.py', '--launcher', 'torchrun'),
    ),
]


@pytest.mark.parametrize('case', CASES, ids=lambda case: case.name)
def test_ends_with_one_message(case, check):
    check(TRAIN, case)
