"""Turning the authors' checkpoints into ones that MMDetection 3 loads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .files import CheckpointError, read_checkpoint, write_checkpoint
from .layout import OLD_CLASSES, Layout, backbone_layout, detector_layout

StateDict = dict[str, Tensor]

_DETECTOR_PART = re.compile(r'(neck|rpn_head|bbox_head|mask_head|roi_head)\.')
# MABN's classification code names the layers of a ResNet as torchvision does; maskrcnn-benchmark
# puts the first ones under `stem`, and inside a detector all of them under `backbone.body`.
_BACKBONE_PREFIX = re.compile(r'^(backbone\.)?(body\.)?(stem\.)?')
# The ImageNet classifier, and what MABN's two implementations keep for training only.
_TRAINING_ONLY = re.compile(r'^fc\.|\.(iters|buffer_x2|buffer_gz|sta_matrix|pre_x2|pre_gz)$')

_COUNTER = '.num_batches_tracked'
_MEAN = '.running_mean'


def convert_checkpoint(src: str | Path, dst: str | Path) -> None:
    """Convert a released checkpoint to MMDetection 3.

    A detector becomes a checkpoint that MMDetection 3 loads strictly under its config in
    ``configs/released``; R50-wc becomes one for
    ``backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=DST))``. The optimizer's state is
    dropped, ``meta`` is kept.

    Args:
        src: One of the files of ``CATALOGUE``, as released.
        dst: Where to write; nothing is written unless all of ``src`` is understood.

    Raises:
        CheckpointError: ``src`` cannot be read, or is of another architecture; in that case the
            message lists every unknown and missing key and every unexpected shape.
    """
    checkpoint = read_checkpoint(src)
    try:
        state_dict = _find_state_dict(checkpoint)
        is_detector = any(_DETECTOR_PART.match(key) for key in state_dict)
        converted = (convert_detector if is_detector else convert_backbone)(state_dict)
    except CheckpointError as error:
        raise CheckpointError(f'{src}: {error}') from None
    write_checkpoint({'meta': checkpoint.get('meta', {}), 'state_dict': converted}, dst)


def convert_detector(state_dict: StateDict) -> StateDict:
    """Convert the tensors of one of CBN's detectors from MMDetection 0.6-1.x.

    The heads move under ``roi_head``. The background, class 0 of 81, becomes the last row of
    ``fc_cls`` and leaves ``fc_reg`` and ``conv_logits``, weights and biases alike.

    Args:
        state_dict: The tensors by their old names, without the prefix ``module.``.

    Returns:
        The tensors by their new names, in the same order.

    Raises:
        CheckpointError: The tensors are not those of one of the eight models.
    """
    with_mask = any(key.startswith('mask_head.') for key in state_dict)
    norm = next((n for n in ('gn', 'bn') if f'neck.lateral_convs.0.{n}.weight' in state_dict), None)
    layout = detector_layout(norm, with_mask)
    _check(state_dict, layout, may_lack=(_COUNTER,), expected='CBN detector of MMDetection 0.6-1.x')
    # The authors' CBN counted no batches.
    state_dict = state_dict | _zeros(layout, _COUNTER, state_dict)
    return {_new_name(key): _reorder(key, t) for key, t in state_dict.items()}


def convert_backbone(state_dict: StateDict) -> StateDict:
    """Convert the tensors of MABN's ImageNet backbone (R50-wc) to MMDetection's ResNet-50.

    Their MABN subtracts no mean and has no ``running_mean``; ours has BN's tensors, with a mean of
    zero. The convolutions stay as they are: ``CenConv2d`` centres them in use.

    Args:
        state_dict: The tensors, named by the classification code or by maskrcnn-benchmark.

    Returns:
        The tensors by the names of MMDetection's ResNet, without the classifier.

    Raises:
        CheckpointError: The tensors are not those of a ResNet-50 with MABN.
    """
    named = {_BACKBONE_PREFIX.sub('', key): tensor for key, tensor in state_dict.items()}
    kept = {
        # maskrcnn-benchmark's MABN keeps it as (1, C, 1, 1)
        key: tensor.flatten() if key.endswith('.running_var') else tensor
        for key, tensor in named.items()
        if not _TRAINING_ONLY.search(key)
    }
    layout = backbone_layout()
    _check(kept, layout, may_lack=(_COUNTER, _MEAN), expected='MABN ResNet-50 backbone (R50-wc)')
    if any(tensor.any() for key, tensor in kept.items() if key.endswith(_MEAN)):
        raise CheckpointError(
            'this ResNet-50 was trained with BN, not MABN: its running means are not zero. BN '
            'weights need no conversion: name them in init_cfg as they are'
        )
    return kept | _zeros(layout, _MEAN, kept) | _zeros(layout, _COUNTER, kept)


def _find_state_dict(checkpoint: dict[str, Any]) -> StateDict:
    """Find the tensors: mmcv calls them state_dict, the MABN code model, torchvision nothing."""
    state_dict = checkpoint.get('state_dict', checkpoint.get('model', checkpoint))
    if not state_dict or not isinstance(state_dict, dict):
        raise CheckpointError('there are no tensors in it')
    others = [key for key, value in state_dict.items() if not isinstance(value, Tensor)]
    if others:
        raise CheckpointError(f'not a state dict of tensors: {", ".join(map(str, others))}')
    return {key.removeprefix('module.'): tensor for key, tensor in state_dict.items()}


def _check(state_dict: StateDict, layout: Layout, may_lack: tuple[str, ...], expected: str) -> None:
    problems = [f'unknown: {key}' for key in state_dict if key not in layout]
    problems += [f'missing: {key}' for key in layout if key not in state_dict and not key.endswith(may_lack)]
    problems += [
        f'shape: {key} is {tuple(state_dict[key].shape)} and should be {shape}'
        for key, shape in layout.items()
        if key in state_dict and tuple(state_dict[key].shape) != shape
    ]
    if problems:
        raise CheckpointError('\n  '.join([f'not a {expected}:', *problems]))


def _zeros(layout: Layout, ending: str, present: StateDict) -> StateDict:
    dtype = torch.int64 if ending == _COUNTER else torch.float32
    return {
        key: torch.zeros(shape, dtype=dtype)
        for key, shape in layout.items()
        if key.endswith(ending) and key not in present
    }


def _new_name(key: str) -> str:
    return f'roi_head.{key}' if key.startswith(('bbox_head.', 'mask_head.')) else key


def _reorder(key: str, tensor: Tensor) -> Tensor:
    """Bring the rows of the layers that have some for every class into the new order."""
    background = len(tensor) // OLD_CLASSES if tensor.ndim else 0
    if key.startswith('bbox_head.fc_cls.'):
        return torch.cat([tensor[background:], tensor[:background]])
    if key.startswith(('bbox_head.fc_reg.', 'mask_head.conv_logits.')):
        return tensor[background:].clone()  # a view would be saved with the rows it leaves out
    return tensor
