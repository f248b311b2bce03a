"""What is wrong in a case of bad input, and what the message about it must say."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

TRAIN = 'tools/train.py'
CBN = "custom_hooks = [dict(type='CrossIterationHook')]\n"


@dataclass(frozen=True)
class Case:
    """Something wrong.

    Args:
        name: Of the test.
        words: What the message must say: the thing, its value and the remedy.
        arguments: The command line of the program; ``config.py`` is the small Mask R-CNN and ``config``.
        config: Lines to add to that config.
        spoil: Makes something wrong in the folder of the case, which holds ``shapes/``.
        environment: Variables to set.
        prepare: Called in the process before the program.
        runs: Whether the fault shows while the run is under way only; there is a work folder then.
        passes: Whether nothing is wrong, and the program ends as it should.
    """

    name: str
    words: tuple[str, ...]
    arguments: tuple[str, ...] = ('config.py',)
    config: str = ''
    spoil: Callable[[Path], None] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[], None] | None = None
    runs: bool = False
    passes: bool = False


def each_of(cases: Sequence[Case]) -> pytest.MarkDecorator:
    """Test every case; those in which a run begins are slow."""
    marks = {True: [pytest.mark.slow], False: []}
    return pytest.mark.parametrize('case', [pytest.param(c, id=c.name, marks=marks[c.runs]) for c in cases])


def norm(settings: str, place: str = 'neck', more: str = '') -> str:
    return f'model = dict({place}=dict(norm_cfg=dict({settings}){more}))\n'


def options(*settings: str) -> tuple[str, ...]:
    return ('config.py', '--cfg-options', *settings)


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


def narrow(name: str) -> Callable[[Path], None]:
    """Make an image narrower than its annotation file says."""

    def spoil(folder: Path) -> None:
        image = Image.open(folder / name)
        image.resize((image.width - 16, image.height)).save(folder / name)

    return spoil


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def save(content: Any) -> Callable[[Path], None]:
    return lambda folder: torch.save(content, folder / 'some.pth')


def saved_and_cut(folder: Path) -> None:
    save({'state_dict': {'weight': torch.zeros(5000)}})(folder)
    cut('some.pth', 0.5)(folder)


def resnet_weights(folder: Path) -> None:
    torch.save({f'layer{n}.0.conv1.weight': torch.zeros(4, 4, 3, 3) for n in range(4)}, folder / 'some.pth')


def half_fitting(folder: Path) -> None:
    """The right names for a part of the model, and one wrong shape."""
    weights = {'backbone.conv1.weight': torch.zeros(8, 3, 7, 7), 'backbone.bn1.weight': torch.zeros(9)}
    torch.save({'state_dict': weights, 'meta': {}, 'optimizer': {}}, folder / 'some.pth')
