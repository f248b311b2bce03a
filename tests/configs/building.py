"""Reading the configs and building their models, each once."""

from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tests.configs.expected import ROWS, Row

CONFIGS = Path(__file__).parents[2] / 'configs'
PARTS = {  # where a part stands in a two-stage detector, and where in RetinaNet
    'backbone': ('backbone', 'backbone'),
    'neck': ('neck', 'neck'),
    'box': ('roi_head.bbox_head', 'bbox_head'),
    'mask': ('roi_head.mask_head', None),
}

each_row = pytest.mark.parametrize(('name', 'row'), ROWS.items(), ids=ROWS)


@cache
def read_once(name: str) -> Config:
    return Config.fromfile(str(CONFIGS / f'{name}.py'))


def read(name: str) -> Config:
    return deepcopy(read_once(name))


@cache
def build_once(name: str) -> nn.Module:
    return build(read(name))


def build(cfg: Config, device: str = 'meta') -> nn.Module:
    with torch.device(device):  # meta: neither memory nor initial values, which would take minutes
        return MODELS.build(cfg.model)


def part(model: Config | nn.Module, name: str, row: Row) -> Config | nn.Module:
    node = model
    for key in PARTS[name][row.detector == 'RetinaNet'].split('.'):
        node = getattr(node, key)
    return node


def norms_of(module: nn.Module) -> Iterator[nn.Module]:
    return (m for m in module.modules() if isinstance(m, _BatchNorm | nn.GroupNorm))
