"""Old checkpoints made from new models: the mapping of the converter, inverted independently."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
META = {
    'epoch': 12,
    'iter': 87960,
    'lr': [0.0002],
    'time': 'Sat Feb 15 11:51:13 2020',
    'CLASSES': tuple(f'class {i}' for i in range(80)),
}


def build(config: str, seed: int = 0, randomize: bool = True) -> torch.nn.Module:
    """Build the model of a config of this repository, by default with every tensor random."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    register_all_modules()
    model = MODELS.build(Config.fromfile(ROOT / config).model).eval()
    generator = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        if randomize and tensor.is_floating_point():
            tensor.uniform_(0.01, 0.03, generator=generator)
    return model


def as_released(model: torch.nn.Module, prefix: str = '') -> OrderedDict:
    """Undo what changed since MMDetection 0.6: the background is class 0 again."""
    old = OrderedDict()
    for key, new in model.state_dict().items():
        old_key = prefix + key.replace('roi_head.', '')
        noise = torch.randn(4, *new.shape[1:])
        if 'fc_cls' in key:
            old[old_key] = torch.cat([new[80:81], new[0:80]])
        elif 'fc_reg' in key:
            old[old_key] = torch.cat([noise, new])
        elif 'conv_logits' in key:
            old[old_key] = torch.cat([noise[:1], new])
        elif not key.endswith('.iterations'):
            old[old_key] = new.clone()
    return old


def save_as_released(state_dict: OrderedDict, path: Path) -> Path:
    """Save as mmcv 0.2 did with PyTorch 1.0, the optimizer's state included."""
    optimizer = {
        'state': {139942338712648: {'momentum_buffer': torch.zeros(3)}},
        'param_groups': [{'lr': 0.02, 'nesterov': False, 'params': [139942338712648]}],
    }
    torch.save(
        {'meta': META, 'state_dict': state_dict, 'optimizer': optimizer},
        path,
        _use_new_zipfile_serialization=False,
    )
    return path
