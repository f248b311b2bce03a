"""Wrong configs, data, checkpoints and command lines: one message, a non-zero exit, nothing half-written."""

import hashlib
import json
import os
import resource
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip('mmdet')

from forked import ROOT, Result, run
from mmengine.config import Config
from torchvision.models import resnet50

from mmdet_cbn.data.shapes import generate

TINY = ROOT / 'tests/helpers/tiny_mask_rcnn.py'
TRAIN, TEST = 'tools/train.py', 'tools/test.py'
TRAINING = 'shapes/annotations/instances_train2017.json'
IMAGE = 'shapes/train2017/000000000001.jpg'
CBN = "custom_hooks = [dict(type='CrossIterationHook')]\n"


@dataclass(frozen=True)
class Case:
    """Something wrong.

    Args:
        name: Of the test.
        words: What the message must say: the thing, its value and the remedy.
        program: What is run.
        arguments: Its command line; ``config.py`` is the small Mask R-CNN and ``config``.
        config: Lines to add to that config.
        spoil: Makes something wrong in the folder of the case, which holds ``shapes/``.
        environment: Variables to set.
        prepare: Called in the process before the program.
        runs: Whether the fault shows while the run is under way only; there is a work folder then.
    """

    name: str
    words: tuple[str, ...]
    program: str = TRAIN
    arguments: tuple[str, ...] = ('config.py',)
    config: str = ''
    spoil: Callable[[Path], None] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[], None] | None = None
    runs: bool = False


def norm(settings: str, place: str = 'neck', more: str = '') -> str:
    return f'model = dict({place}=dict(norm_cfg=dict({settings}){more}))\n'


def options(*settings: str) -> tuple[str, ...]:
    return ('config.py', '--cfg-options', *settings)


def annotations(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Change what the annotation file of training holds, in place or by returning something else."""

    def spoil(folder: Path) -> None:
        path = folder / 'shapes/annotations/instances_train2017.json'
        content = json.loads(path.read_text())
        changed = change(content)
        path.write_text(json.dumps(content if changed is None else changed))

    return spoil


def each(section: str, **values: Any) -> Callable[[Path], None]:
    return annotations(lambda coco: [entry.update(values) for entry in coco[section]] and None)


def first(section: str, **values: Any) -> Callable[[Path], None]:
    return annotations(lambda coco: coco[section][0].update(values))


def without(section: str, key: str) -> Callable[[Path], None]:
    return annotations(lambda coco: coco[section][0].pop(key) and None)


def write(name: str, content: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    return spoil


def cut(name: str, share: float) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / name
        os.truncate(path, int(path.stat().st_size * share))

    return spoil


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def save(content: Any, name: str = 'some.pth') -> Callable[[Path], None]:
    return lambda folder: torch.save(content, folder / name)


def saved_and_cut(folder: Path) -> None:
    save({'state_dict': {'weight': torch.zeros(5000)}})(folder)
    cut('some.pth', 0.5)(folder)


def limit_files() -> None:
    """A disk with room for logs of 100 kB, not for a checkpoint."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def fake_two_gpus() -> None:
    torch.cuda.is_available = lambda: True
    torch.cuda.device_count = lambda: 2


def take_port() -> None:
    """Hold a port, and name it to the program."""
    global _taken
    _taken = socket.create_server(('127.0.0.1', 0))
    os.environ['MASTER_PORT'] = str(_taken.getsockname()[1])


def resnet_weights(folder: Path) -> None:
    torch.save({f'layer{n}.0.conv1.weight': torch.zeros(4, 4, 3, 3) for n in range(4)}, folder / 'some.pth')


def half_fitting(folder: Path) -> None:
    """The right names for a part of the model, and one wrong shape."""
    weights = {'backbone.conv1.weight': torch.zeros(8, 3, 7, 7), 'backbone.bn1.weight': torch.zeros(9)}
    torch.save({'state_dict': weights, 'meta': {}, 'optimizer': {}}, folder / 'some.pth')


def import_from_here() -> None:
    """Let the config import modules of the folder, as PYTHONPATH would."""
    sys.path.insert(0, os.getcwd())


def released(folder: Path) -> None:
    """The authors' backbone, which can be converted."""
    torch.save(resnet50().state_dict(), folder / 'R50-wc.pth')


def logged(folder: Path) -> None:
    """A work folder of a run that trained one iteration."""
    path = folder / 'run/20250101_000000/vis_data/scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('{"loss": 1.0, "epoch": 1, "iter": 1, "step": 1}\n')


CONFIGS = [
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

LAYERS = [
    Case(
        'misspelt-norm', ('model.neck.norm_cfg', "type='CNB'", 'did you mean CBN'), config=norm("type='CNB'")
    ),
    Case('lower-case-norm', ("type='mabn'", 'did you mean MABN'), config=norm("type='MABN'".lower())),
    Case(
        'norm-of-nowhere', ("type='FilterResponse'", 'custom_imports'), config=norm("type='FilterResponse'")
    ),
    Case(
        'norm-without-type',
        ('model.neck.norm_cfg', 'must be a dictionary with a type'),
        config=norm('window_size=4'),
    ),
    Case(
        'norm-is-text',
        ("model.neck.norm_cfg='CBN'", "dict(type='CBN'"),
        config="model = dict(neck=dict(norm_cfg='CBN'))\n",
    ),
    Case(
        'misspelt-conv',
        ("type='CentConv2d'", 'did you mean CenConv2d'),
        config=norm("type='BN'", more=", conv_cfg=dict(type='CentConv2d')"),
    ),
    *(
        Case(
            f'{kind}-{argument}',
            (
                'model.neck.norm_cfg',
                kind,
                argument.partition('=')[0],
                argument.partition('=')[2],
                'correct it',
            ),
            config=norm(f"type='{kind}', {argument}") + CBN,
        )
        for kind, argument in (
            ('CBN', "window_size='4'"),
            ('CBN', 'window_size=0'),
            ('CBN', 'burn_in=-1'),
            ('CBN', 'momentum=2'),
            ('NaiveCBN', 'window_size=2.5'),
            ('MABN', "buffer_size='16'"),
            ('MABN', 'r_max=0.5'),
            ('MABN', 'track_running_stats=False'),
            ('BRN', 'warmup_iters=-1'),
            ('BRN', 'd_max=-1'),
        )
    ),
    Case(
        'cbn-without-hook',
        ('neck.lateral_convs.0.bn', 'convolution', "custom_hooks = [dict(type='CrossIterationHook')]"),
        config=norm("type='CBN'"),
    ),
    Case(
        'misspelt-hook',
        ("type='CrossIterationsHook'", 'did you mean CrossIterationHook'),
        config=norm("type='CBN'") + CBN.replace('IterationHook', 'IterationsHook'),
    ),
    Case(
        'wrong-argument-of-hook',
        ('CrossIterationHook', "window_size='big'", 'correct it'),
        config=norm("type='CBN'") + CBN.replace("')", "', window_size='big')"),
    ),
    Case(
        'unknown-argument-of-hook',
        ('CrossIterationHook', 'burnin_epochs', 'correct it'),
        config=norm("type='CBN'") + CBN.replace("')", "', burnin_epochs=3)"),
    ),
    Case(
        'norm-without-convolution',
        ('backbone.norm0', 'CrossIterationBatchNorm2d', 'no convolution', 'another norm'),
        config="model = dict(backbone=dict(_delete_=True, type='SwinTransformer', embed_dims=8, "
        "num_heads=[1, 1, 1, 1], norm_cfg=dict(type='CBN')))\n" + CBN,
    ),
    Case(
        'mabn-partly-centred',
        ('MABN', 'neck.lateral_convs.0.bn', 'backbone', "conv_cfg=dict(type='CenConv2d')"),
        config="model = dict(backbone=dict(norm_cfg=dict(type='MABN'), conv_cfg=dict(type='CenConv2d')), "
        "neck=dict(norm_cfg=dict(type='MABN')))\n",
    ),
    Case(
        'norm-not-behind-its-convolution',
        ('backbone.bn1', 'backbone.conv1', 'must directly follow', 'another norm'),
        config="custom_imports = dict(imports=['late_norm'])\n"
        "model = dict(backbone=dict(type='LateNorm', norm_cfg=dict(type='CBN')))\n" + CBN,
        spoil=write(
            'late_norm.py',
            'from mmdet.models import ResNet\n'
            'from mmengine.registry import MODELS\n'
            '@MODELS.register_module(force=True)\n'
            'class LateNorm(ResNet):\n'
            '    def __init__(self, **kwargs):\n'
            '        super().__init__(**kwargs)\n'
            '        self.bn1.register_forward_pre_hook(lambda norm, inputs: (inputs[0].relu(),))\n',
        ),
        prepare=import_from_here,
        runs=True,
    ),
    Case(
        'one-value-per-channel',
        ('Expected more than 1 value per channel', 'raise the batch size'),
        config=norm("type='BRN'", 'backbone', ', strides=(1, 2, 4, 8)')
        + 'train_dataloader = dict(batch_size=1)\n',
        runs=True,
    ),
]

DATA = [
    Case(
        'no-annotation-file',
        ('instances_train2017.json', 'python -m mmdet_cbn.data.shapes'),
        spoil=remove(TRAINING),
    ),
    Case('annotations-are-no-json', ('not a whole JSON file', 'again'), spoil=write(TRAINING, '<html>')),
    Case('annotations-are-cut', ('not a whole JSON file', 'again'), spoil=cut(TRAINING, 0.5)),
    Case(
        'annotations-are-binary',
        ('not a whole JSON file', 'again'),
        spoil=lambda folder: (folder / TRAINING).write_bytes(b'\xff\xd8\xff'),
    ),
    Case('annotations-are-a-list', ('holds a list', 'COCO format'), spoil=write(TRAINING, '[]')),
    *(
        Case(
            f'no-{section}',
            (f"no list '{section}'", 'COCO format'),
            spoil=annotations(lambda coco, s=section: coco.pop(s) and None),
        )
        for section in ('images', 'annotations', 'categories')
    ),
    Case(
        'empty-images',
        ("its list 'images' is empty", 'COCO format'),
        spoil=annotations(lambda coco: coco['images'].clear()),
    ),
    Case('image-without-size', ('images[0] has no width', 'COCO format'), spoil=without('images', 'width')),
    Case(
        'image-size-as-text',
        ('the wrong type', 'widths, heights and areas must be numbers'),
        spoil=each('images', width='64'),
    ),
    Case(
        'annotation-without-box',
        ('annotations[0] has no bbox', 'COCO format'),
        spoil=without('annotations', 'bbox'),
    ),
    Case(
        'annotation-without-area',
        ('annotations[0] has no area', 'COCO format'),
        spoil=without('annotations', 'area'),
    ),
    Case(
        'unknown-category',
        ('annotation 1 has 99', 'category_id', 'correct'),
        spoil=first('annotations', category_id=99),
    ),
    Case(
        'none-of-the-classes',
        ('none of the 4 classes', 'circle', 'balloon', 'metainfo=dict(classes=...)'),
        spoil=each('categories', name='balloon'),
    ),
    Case(
        'annotation-id-twice',
        ("ids of 'annotations' are not unique", 'e.g. 2'),
        spoil=first('annotations', id=2),
    ),
    Case('image-id-twice', ("ids of 'images' are not unique", 'e.g. 2'), spoil=first('images', id=2)),
    Case(
        'annotations-of-other-images',
        ('no annotation belongs to an image', 'image_id'),
        spoil=each('annotations', image_id=999),
    ),
    Case(
        'box-outside',
        ('lie outside of their image', 'annotation 1: [500, 500, 20, 20]', 'correct or delete'),
        spoil=first('annotations', bbox=[500, 500, 20, 20]),
    ),
    Case(
        'box-left-of-the-image',
        ('lie outside of their image', '[-30, 0, 20, 20]'),
        spoil=first('annotations', bbox=[-30, 0, 20, 20]),
    ),
    Case(
        'box-of-no-size',
        ('smaller than a pixel', 'annotation 1: [5, 5, 0, 10]', 'correct or delete'),
        spoil=first('annotations', bbox=[5, 5, 0, 10]),
    ),
    Case(
        'box-of-negative-size',
        ('smaller than a pixel', '[20, 20, -10, 5]'),
        spoil=first('annotations', bbox=[20, 20, -10, 5]),
    ),
    Case(
        'boxes-as-shares',
        ('smaller than a pixel', 'in pixels'),
        spoil=each('annotations', bbox=[0.1, 0.1, 0.5, 0.5]),
    ),
    Case(
        'box-of-three-numbers',
        ('annotation 1 has bbox=[1, 2, 3]', '[x, y, width, height]'),
        spoil=first('annotations', bbox=[1, 2, 3]),
    ),
    Case(
        'box-with-nan',
        ('annotation 1 has bbox=', 'nan', '[x, y, width, height]'),
        spoil=first('annotations', bbox=[1, 2, 3, float('nan')]),
    ),
    Case(
        'annotation-without-mask',
        ('annotation 1', 'with_mask=True'),
        spoil=without('annotations', 'segmentation'),
    ),
    Case(
        'no-image-folder',
        ('train2017', 'python -m mmdet_cbn.data.shapes'),
        spoil=lambda folder: shutil.rmtree(folder / 'shapes/train2017'),
    ),
    Case('image-missing', ('1 of its 4 images', '000000000001.jpg', 'unpack'), spoil=remove(IMAGE)),
    Case(
        'misspelt-data-set',
        ("type='CocoDatset'", 'did you mean CocoDataset'),
        config="train_dataloader = dict(dataset=dict(type='CocoDatset'))\n",
    ),
    Case(
        'image-cut-short',
        (f'cannot decode the image {IMAGE}:', 'replace it'),
        spoil=cut(IMAGE, 0.5),
        runs=True,
    ),
    Case(
        'image-cut-short-in-a-worker',
        (f'cannot decode the image {IMAGE}:', 'replace it'),
        config='train_dataloader = dict(num_workers=1)\n',
        spoil=cut(IMAGE, 0.5),
        runs=True,
    ),
    Case(
        'image-is-text',
        (f'cannot decode the image {IMAGE}:', 'replace it'),
        spoil=write(IMAGE, 'not found'),
        runs=True,
    ),
    Case('image-is-empty', ('an empty file', 'find FOLDER -size 0'), spoil=cut(IMAGE, 0), runs=True),
    Case(
        'misspelt-transform',
        ('Rezise is not in the registry', 'spelling'),
        config="train_dataloader = dict(dataset=dict(pipeline=[dict(type='Rezise')]))\n",
        runs=True,
    ),
    Case(
        'misspelt-argument-of-optimizer',
        ('SGD', 'momemtum', 'check the arguments'),
        config='optim_wrapper = dict(optimizer=dict(momemtum=0.9))\n',
        runs=True,
    ),
    Case(
        'heads-of-80-classes',
        ('roi_head.bbox_head has num_classes=80', '4 classes (circle', 'set num_classes'),
        config='model = dict(roi_head=dict(bbox_head=dict(num_classes=80)))\n',
    ),
]

SOME = ('config.py', 'some.pth')
LOAD = options('load_from=some.pth')

CHECKPOINTS = [
    Case('no-checkpoint', ('no checkpoint some.pth', 'work_dirs'), TEST, SOME),
    Case(
        'checkpoint-is-a-page',
        ('some.pth is a web page', 'again'),
        TEST,
        SOME,
        spoil=write('some.pth', '<!DOCTYPE html><html>'),
    ),
    Case('checkpoint-is-empty', ('some.pth is empty', 'again'), TEST, SOME, spoil=write('some.pth', '')),
    Case(
        'checkpoint-is-text',
        ('some.pth is not a whole checkpoint', 'again'),
        TEST,
        SOME,
        spoil=write('some.pth', 'hello ' * 99),
    ),
    Case(
        'checkpoint-is-cut', ('some.pth is not a whole checkpoint', 'again'), TEST, SOME, spoil=saved_and_cut
    ),
    Case(
        'checkpoint-is-a-tensor',
        ('some.pth holds a Tensor', 'dictionary'),
        TEST,
        SOME,
        spoil=save(torch.zeros(3)),
    ),
    Case(
        'checkpoint-of-another-model',
        ('some.pth has none of', 'another architecture', 'the config'),
        TEST,
        SOME,
        spoil=resnet_weights,
    ),
    Case(
        'checkpoint-fits-in-part',
        ('some.pth does not fit', 'are missing', '1 have another shape', 'backbone.bn1.weight', 'the config'),
        TEST,
        SOME,
        spoil=half_fitting,
    ),
    Case(
        'predictions-to-no-pickle',
        ('--out some.json', '.pkl'),
        TEST,
        (*SOME, '--out', 'some.json'),
        spoil=half_fitting,
    ),
    Case(
        'pictures-without-hook',
        ('--show-dir', 'default_hooks.visualization'),
        TEST,
        (*SOME, '--show-dir', 'x'),
        'default_hooks = dict(visualization=None)\n',
        half_fitting,
    ),
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
    Case(
        'pretrained-from-nowhere',
        ('R50-wc_mmdet3.pth', 'no such file'),
        config='model = dict(backbone=dict(init_cfg=dict('
        "_delete_=True, type='Pretrained', checkpoint='R50-wc_mmdet3.pth')))\n",
    ),
]

JOINED = {'RANK': '0', 'LOCAL_RANK': '0', 'WORLD_SIZE': '1', 'MASTER_ADDR': '127.0.0.1'}
PYTORCH = ('config.py', '--launcher', 'pytorch')

MACHINE = [
    Case(
        'more-processes-than-gpus',
        ('3 processes', '2 GPU(s)', 'CUDA_VISIBLE_DEVICES=-1'),
        arguments=PYTORCH,
        environment={'LOCAL_WORLD_SIZE': '3'},
        prepare=fake_two_gpus,
    ),
    Case(
        'slurm-on-cpu',
        ('--launcher slurm needs GPUs', 'tools/dist_train.sh'),
        arguments=('config.py', '--launcher', 'slurm'),
    ),
    Case(
        'no-launcher', ('--launcher pytorch', 'RANK', 'MASTER_PORT', 'tools/dist_train.sh'), arguments=PYTORCH
    ),
    Case(
        'taken-port',
        ('MASTER_PORT', 'is taken', 'PORT'),
        arguments=PYTORCH,
        environment=JOINED,
        prepare=take_port,
    ),
    Case(
        'disk-full-at-a-checkpoint',
        ('cannot write', 'work_dirs/config/epoch_1.pth', 'too large', 'make room'),
        prepare=limit_files,
        runs=True,
    ),
]

GENERATE = 'mmdet_cbn.data.shapes'
CONVERT, DOWNLOAD, REPORT = 'tools/convert_checkpoint.py', 'tools/download_checkpoint.py', 'tools/report.py'
NO_NETWORK = {f'{scheme}_proxy': 'http://127.0.0.1:9' for scheme in ('http', 'https')}

TOOLS = [
    Case('shapes-without-folder', ('required: out',), GENERATE, ()),
    Case('shapes-none', ('train must be at least 1', '0'), GENERATE, ('new', '--train', '0')),
    Case('shapes-too-small', ('size must be at least 32', '16'), GENERATE, ('new', '--size', '16')),
    Case('shapes-size-is-text', ('--size', "invalid int value: 'big'"), GENERATE, ('new', '--size', 'big')),
    Case(
        'shapes-in-other-folder',
        ('work', 'not a shapes data set', 'choose another'),
        GENERATE,
        ('work',),
        spoil=write('work/a', ''),
    ),
    Case(
        'shapes-with-other-numbers',
        ('shapes', '--train 4', 'delete it or choose another'),
        GENERATE,
        ('shapes', '--train', '5'),
    ),
    Case('shapes-below-a-file', ('config.py', 'File exists'), GENERATE, ('config.py/new',)),
    Case(
        'shapes-on-a-full-disk',
        ('mmdet_cbn.data.shapes', 'too large'),
        GENERATE,
        ('new', '--train', '1', '--val', '1', '--size', '1024'),
        prepare=limit_files,
    ),
    Case('convert-nothing', ('some.pth', 'no such file'), CONVERT, ('some.pth', 'new.pth')),
    Case(
        'convert-a-page',
        ('some.pth is a web page', 'browser'),
        CONVERT,
        ('some.pth', 'new.pth'),
        spoil=write('some.pth', '<html>'),
    ),
    Case(
        'convert-half',
        ('some.pth is not a whole checkpoint', 'again'),
        CONVERT,
        ('some.pth', 'new.pth'),
        spoil=saved_and_cut,
    ),
    Case(
        'convert-below-a-file',
        ('config.py', 'a file is in the place of a folder', 'another path'),
        CONVERT,
        ('R50-wc.pth', 'config.py/new.pth'),
        spoil=released,
    ),
    Case(
        'convert-into-a-folder',
        ('shapes', 'is a folder', 'name of a file'),
        CONVERT,
        ('R50-wc.pth', 'shapes'),
        spoil=released,
    ),
    Case(
        'convert-on-a-full-disk',
        ('cannot write new.pth', 'make room'),
        CONVERT,
        ('R50-wc.pth', 'new.pth'),
        spoil=released,
        prepare=limit_files,
    ),
    Case('download-nothing', ('give the NAME', '--list'), DOWNLOAD, ()),
    Case('download-unknown', ("invalid choice: 'cbn'", 'mask-rcnn_r50_fpn_4conv1fc_cbn'), DOWNLOAD, ('cbn',)),
    Case(
        'download-with-browser-only',
        ('R50-wc', 'dropbox', 'browser', 'checkpoints/R50-wc.pth'),
        DOWNLOAD,
        ('R50-wc',),
    ),
    Case(
        'download-without-network',
        ('no network', 'browser'),
        DOWNLOAD,
        ('mask-rcnn_r50_fpn_4conv1fc_cbn', '--dest', '.'),
        environment=NO_NETWORK,
    ),
    Case(
        'download-below-a-file',
        ('config.py', 'a file is in the place of a folder', 'another path'),
        DOWNLOAD,
        ('mask-rcnn_r50_fpn_4conv1fc_cbn', '--dest', 'config.py'),
        environment=NO_NETWORK,
    ),
    Case('report-of-nothing', ('required: WORK_DIR',), REPORT, ()),
    Case('report-of-no-folder', ('no folder nowhere',), REPORT, ('nowhere', '--out', 'new.md')),
    Case('report-of-no-run', ('no run in shapes', 'TIME/vis_data'), REPORT, ('shapes', '--out', 'new.md')),
    Case('report-curves-as-jpeg', ('--curves a.jpg', '.png'), REPORT, ('shapes', '--curves', 'a.jpg')),
    Case(
        'report-of-unknown-format', ("invalid choice: 'html'", 'csv'), REPORT, ('shapes', '--format', 'html')
    ),
    Case(
        'report-below-a-file',
        ('config.py', 'a file is in the place of a folder', 'another path'),
        REPORT,
        ('run', '--out', 'config.py/new.md'),
        spoil=logged,
    ),
    Case(
        'report-into-a-folder',
        ('shapes', 'is a folder', 'name of a file'),
        REPORT,
        ('run', '--out', 'shapes'),
        spoil=logged,
    ),
]

CASES = [*CONFIGS, *LAYERS, *DATA, *CHECKPOINTS, *MACHINE, *TOOLS]


@pytest.fixture(scope='module')
def template(tmp_path_factory):
    """A folder with a data set, and a config in which MMDetection's are included: those take time to find."""
    folder = tmp_path_factory.mktemp('template') / 'here'
    generate(folder / 'shapes', train=4, val=2, size=64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('SHAPES', 'shapes')
        Config.fromfile(TINY).dump(folder / 'whole.py')
    return folder


def snapshot(folder: Path) -> dict[str, str]:
    """What lies in a folder: names, and the contents of files."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ''
        for path in folder.rglob('*')
        if '__pycache__' not in path.parts
    }


def check_message(case: Case, result: Result) -> None:
    """One message, of our programs or of argparse, after nothing but the log of a run."""
    assert result.status == (2 if 'usage:' in result.stderr else 1), result.stderr
    assert 'Traceback' not in result.stdout + result.stderr, result.stderr
    start = Path(case.program).name if case.program.endswith('.py') else f'python -m {case.program}'
    text = '\n' + result.stderr
    message = text[max(text.rfind(f'\n{start}: '), text.rfind('\nerror: ')) :]
    assert message, 'no message'
    assert len(message.strip().splitlines()) <= 6, message
    assert len(message) < 800, message
    for word in case.words:
        assert word in message, f'{word!r} is not in: {message}'


@pytest.mark.parametrize('case', CASES, ids=lambda case: case.name)
def test_ends_with_one_message(case, template, tmp_path):
    folder = tmp_path / 'here'
    shutil.copytree(template, folder)
    (folder / 'config.py').write_text(f"_base_ = './whole.py'\n{case.config}")
    if case.spoil:
        case.spoil(folder)
    before = snapshot(folder)
    result = run(case.program, case.arguments, folder, case.environment, case.prepare)
    check_message(case, result)
    after = snapshot(folder)
    if case.runs:
        assert not [name for name in after if name.endswith('.pth') or Path(name).name.startswith('.')]
        after = {name: content for name, content in after.items() if not name.startswith('work_dirs')}
    assert after == before
