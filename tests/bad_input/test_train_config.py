"""Training with configs and options that are wrong."""

import sys
from functools import partial

from tests.helpers.forked import ROOT
from tests.helpers.hidden import hiding
from tests.helpers.wrong_input import CBN, TRAIN, Case, each_of, norm, options, write


def hide(module: str) -> None:
    exec(hiding([module]), {})
    sys.modules.pop(module, None)


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
    Case(
        'no-mmpretrain',
        ('resnet18_cbn_4xb4_in1k.py trains with MMPretrain, which is not', 'pip install onedl-mmpretrain'),
        arguments=(str(ROOT / 'configs/imagenet/resnet18_cbn_4xb4_in1k.py'),),
        prepare=partial(hide, 'mmpretrain'),
    ),
    Case(
        'no-mmsegmentation',
        ('769x769.py trains with MMSegmentation, which is not', 'pip install onedl-mmsegmentation'),
        arguments=(str(ROOT / 'configs/cityscapes/pspnet_r101_mabn_8xb2-40k_cityscapes-769x769.py'),),
        prepare=partial(hide, 'mmseg'),
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
    Case(
        'work-dir-of-a-long-name',
        ('--work-dir', 'too long', 'shorter'),
        arguments=('config.py', '--work-dir', 'new/' + 'w' * 300),
    ),
    Case(
        'work-dir-is-a-broken-link',
        ('--work-dir gone', 'broken link', 'another folder'),
        arguments=('config.py', '--work-dir', 'gone'),
        spoil=lambda folder: (folder / 'gone').symlink_to('nowhere'),
    ),
    Case(
        'misspelt-scheduler',
        ('LinearLRR is not in the registry', 'spelling'),
        config="param_scheduler = [dict(type='LinearLRR', start_factor=0.1)]\n",
        runs=True,
    ),
    Case(
        'misspelt-argument-of-scheduler',
        ('LinearLR', 'strat_factor', 'check the arguments'),
        config="param_scheduler = [dict(type='LinearLR', strat_factor=0.1)]\n",
        runs=True,
    ),
    Case(
        'wrong-value-of-scheduler',
        ('cannot build LinearLR', 'should between 0 and 1', 'correct it in the config'),
        config="param_scheduler = [dict(type='LinearLR', start_factor=7)]\n",
        runs=True,
    ),
    *(
        Case(name, (*words, 'correct it in the config'), arguments=options(setting), runs=True)
        for name, setting, words in (
            ('batch-of-none', 'train_dataloader.batch_size=0', ('dataloader', 'batch_size')),
            ('batch-of-minus-one', 'train_dataloader.batch_size=-1', ('dataloader', 'batch_size')),
            ('batch-as-text', 'train_dataloader.batch_size=two', ('dataloader',)),
            ('negative-workers', 'train_dataloader.num_workers=-1', ('dataloader', 'num_workers')),
            ('workers-in-validation', 'val_dataloader.num_workers=-1', ('dataloader', 'num_workers')),
            ('epochs-as-text', 'train_cfg.max_epochs=ten', ('EpochBasedTrainLoop', "'ten'")),
            ('negative-learning-rate', 'optim_wrapper.optimizer.lr=-1', ('SGD', 'learning rate')),
        )
    ),
    Case(
        'misspelt-default-hook',
        ('LogerHook is not in the registry', 'spelling'),
        config="default_hooks = dict(logger=dict(type='LogerHook'))\n",
        runs=True,
    ),
    Case(
        'misspelt-metric',
        ('CocoMetric', 'bboxes', 'correct it in the config'),
        config="val_evaluator = dict(metric='bboxes')\n",
        runs=True,
    ),
    Case('unknown-option', ('unrecognized arguments: --gpus 4',), arguments=('config.py', '--gpus', '4')),
    Case(
        'unknown-launcher',
        ("invalid choice: 'torchrun'", 'pytorch'),
        arguments=('config.py', '--launcher', 'torchrun'),
    ),
]


@each_of(CASES)
def test_ends_with_one_message(case, check):
    check(TRAIN, case)
