"""What is refused of folders of classes, and of images with label maps, before a run."""

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, init_default_scope

from mmdet_cbn.launch import LaunchError, check_data
from mmdet_cbn.launch.sister_data import check_sister_data
from tests.helpers import digit_folders, shape_streets

ROOT = Path(__file__).parents[2]
IMAGENET = 'imagenet/resnet18_bn_4xb2_in1k'
CITYSCAPES = 'cityscapes/pspnet_r101_bn_8xb2-40k_cityscapes-769x769'


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    """Data sets and the configs of them, read once."""
    folder = tmp_path_factory.mktemp('data')
    digit_folders.write_digits(folder / 'imagenet', train=2, val=2)
    shape_streets.write_streets(folder / 'cityscapes', train=2, val=1, size=32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('IMAGENET_ROOT', 'imagenet')
        patch.setenv('CITYSCAPES_ROOT', 'cityscapes')
        for name in (IMAGENET, CITYSCAPES):
            Config.fromfile(ROOT / f'configs/{name}.py').dump(folder / f'{Path(name).name}.py')
    return folder


@pytest.fixture
def check(data, tmp_path, monkeypatch) -> Callable[..., None]:
    """Spoil a copy of the data, and check it as a training does."""

    def check(name: str, spoil: Callable[[Path], object], *changes: str) -> None:
        folder = tmp_path / 'here'
        shutil.copytree(data, folder)
        monkeypatch.chdir(folder)
        spoil(folder / name.partition('/')[0])
        fitting = digit_folders if name == IMAGENET else shape_streets
        parser = argparse.ArgumentParser()
        parser.add_argument('--cfg-options', nargs='+', action=DictAction)
        parsed = parser.parse_args(['--cfg-options', *fitting.options(), *changes])
        cfg = Config.fromfile(f'{Path(name).name}.py')
        cfg.merge_from_dict(parsed.cfg_options)
        init_default_scope(cfg.default_scope)
        check_data(cfg, ['train', 'val'])
        check_sister_data(cfg, ['train', 'val'], MODELS.build(cfg.model))

    return check


def flatten_validation(root: Path) -> None:
    """As ImageNet's archive of it unpacks."""
    for number, path in enumerate(list((root / 'val').glob('*/*'))):
        path.rename(root / f'val/ILSVRC2012_val_{number}.png')
    for path in list((root / 'val').iterdir()):
        if path.is_dir():
            path.rmdir()


def empty_class(root: Path) -> None:
    shutil.rmtree(root / 'train/digit3')
    (root / 'train/digit3').mkdir()


def remove_label_map(root: Path) -> None:
    (root / 'gtFine/train/shapes/1_gtFine_labelTrainIds.png').unlink()


def rename_images(root: Path) -> None:
    for path in list((root / 'leftImg8bit/val/shapes').iterdir()):
        path.rename(path.with_name('renamed.png'))


def nothing(root: Path) -> None:
    pass


@pytest.mark.parametrize('name', [IMAGENET, CITYSCAPES])
def test_whole_data_pass(check, name: str):
    check(name, nothing)


@pytest.mark.parametrize(
    ('spoil', 'changes', 'words'),
    [
        (lambda root: shutil.rmtree(root / 'val'), [], ['imagenet/val/', 'image-net.org', 'IMAGENET_ROOT']),
        (flatten_validation, [], ['imagenet/val holds no folder', 'one folder for each class']),
        (lambda root: shutil.rmtree(root / 'train/digit3'), [], ['train holds 9 folders', '10 classes']),
        (empty_class, [], ['1 of the 10 folders', 'digit3']),
        (nothing, ['model.head.num_classes=1000'], ['num_classes=1000', 'set model.head.num_classes=10']),
        (nothing, ['train_dataloader.dataset.type=ImageNt'], ['ImageNt', 'did you mean ImageNet']),
    ],
)
def test_wrong_folders_of_classes(check, spoil, changes: list[str], words: list[str]):
    with pytest.raises(LaunchError) as error:
        check(IMAGENET, spoil, *changes)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ('spoil', 'changes', 'words'),
    [
        (lambda root: shutil.rmtree(root / 'gtFine'), [], ['gtFine/train/', 'cityscapes-dataset.com']),
        (remove_label_map, [], ['1 of the 2 images', '1_gtFine_labelTrainIds', 'csCreateTrainIdLabelImgs']),
        (rename_images, [], ['holds no file *_leftImg8bit.png', 'set img_suffix']),
        (
            nothing,
            ['model.decode_head.num_classes=20'],
            ['decode_head has num_classes=20', 'set model.decode_head.num_classes=19'],
        ),
    ],
)
def test_wrong_streets(check, spoil, changes: list[str], words: list[str]):
    with pytest.raises(LaunchError) as error:
        check(CITYSCAPES, spoil, *changes)
    for word in words:
        assert word in str(error.value)


def test_lists_of_files_are_left_to_the_library(check):
    """ImageNet finds meta/train.txt, which names images in any folders."""

    def list_files(root: Path) -> None:
        (root / 'meta').mkdir()
        for split in ('train', 'val'):
            (root / f'meta/{split}.txt').write_text('digit0/0.png 0\n')
        shutil.rmtree(root / 'train/digit3')

    check(IMAGENET, list_files)
