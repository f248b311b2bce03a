"""What looks wrong and is not, or is worth a line and no more."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.helpers.wrong_input import TRAIN, Case, narrow

pytestmark = pytest.mark.slow

TRAINING = 'shapes/annotations/instances_train2017.json'
IMAGE = 'shapes/train2017/000000000001.jpg'
CHECK = ('config.py', '--check')
RUN = 'run/20250101_000000/vis_data'


def turned_image(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(folder / IMAGE).save(folder / IMAGE, exif=exif)


def other_order(folder: Path) -> None:
    coco = json.loads((folder / TRAINING).read_text())
    coco['categories'].reverse()
    (folder / TRAINING).write_text(json.dumps(coco))


def linked_data(folder: Path) -> None:
    shutil.move(folder / 'shapes/train2017', folder / 'elsewhere')
    (folder / 'shapes/train2017').symlink_to('../elsewhere')


def of_mmengine(folder: Path) -> None:
    """What a run of MMEngine saves beside the weights."""
    from mmengine.config import Config
    from mmengine.logging import HistoryBuffer
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope('mmdet')
    weights = MODELS.build(Config.fromfile(folder / 'whole.py').model).state_dict()
    hub = {'log_scalars': {'train/loss': HistoryBuffer([1.0], [1])}}
    torch.save({'state_dict': weights, 'message_hub': hub, 'meta': {'epoch': 1}}, folder / 'some.pth')


def report(folder: Path, *lines: str) -> None:
    path = folder / RUN / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(['{"loss": 1.0, "epoch": 1, "iter": 1, "step": 1}', *lines, '']))


def foreign_config(folder: Path) -> None:
    report(folder)
    (folder / RUN / 'config.py').write_text("open('executed', 'w')\n")
    (folder / 'run/config.py').write_text("open('executed', 'w')\n")


TRAINED = [
    Case('nothing-wrong', (), CHECK),
    *(
        Case(f'stray-{name}', (), CHECK, environment={name: '1', 'WORLD_SIZE': 'x', 'LOCAL_WORLD_SIZE': '2'})
        for name in ('RANK', 'LOCAL_RANK', 'SLURM_LOCALID')
    ),
    Case('data-behind-links', (), CHECK, spoil=linked_data),
    Case(
        'image-of-another-size',
        ('warning:', '1 of 4 images that were opened', '000000000001.jpg has 48 x 64 and not 64 x 64 pixels'),
        CHECK,
        spoil=narrow(IMAGE),
    ),
    Case(
        'image-turned-by-exif',
        ('warning:', '1 of 4 images that were opened', '000000000001.jpg (orientation 6)'),
        CHECK,
        spoil=turned_image,
    ),
    Case(
        'categories-in-another-order',
        ('warning:', 'in another order (star, triangle'),
        CHECK,
        spoil=other_order,
    ),
    Case(
        'resume-of-nothing',
        ('warning: --resume', 'starts at the beginning'),
        (*CHECK, '--resume'),
    ),
]
TESTED = [
    Case('checkpoint-of-mmengine', (), ('config.py', 'some.pth', '--check'), spoil=of_mmengine),
    Case(
        'checkpoint-behind-a-link',
        (),
        ('config.py', 'link.pth', '--check'),
        spoil=lambda folder: (of_mmengine(folder), (folder / 'link.pth').symlink_to('some.pth')),
    ),
]
REPORTED = [
    Case(
        'report-of-malformed-lines',
        ('epoch 1',),
        ('run',),
        spoil=lambda folder: report(folder, '[1]', '7', '{"loss": "x", "step": "y"}', '{'),
    ),
    Case('report-of-a-foreign-config', ('no readable config',), ('run',), spoil=foreign_config),
    Case('report-to-stdout', ('epoch 1', 'wrote /dev/fd/1'), ('run', '--out', '/dev/fd/1'), spoil=report),
]
ALL = [
    (program, case)
    for program, cases in ((TRAIN, TRAINED), ('tools/test.py', TESTED), ('tools/report.py', REPORTED))
    for case in cases
]


@pytest.mark.parametrize(('program', 'case'), ALL, ids=lambda value: getattr(value, 'name', None))
def test_passes(program, case, check):
    check(program, replace(case, passes=True))
