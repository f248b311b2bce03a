"""Speed, memory, FLOPs and parameters of a detector with each norm in its heads, beside BN."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmdet_cbn.layers import pair_conv_norm

from ..common.methods import Method
from .layers import Setting
from .measuring import interleave, kept_bytes, peak_memory, ratio, settle
from .norms import MODEL_NORMS, REFERENCE, without_sync

FILL = 4  # steps until the windows are full
# Iterations a second that the papers report in training: CBN Table 6, MABN Table 9.
PAPER_SPEED = {'CBN': 1.0 / 1.3, 'MABN': 1.81 / 2.35}


@dataclass(frozen=True)
class Result:
    """A detector with one norm.

    Attributes:
        norm: Name of the norm.
        train_ms: Median time of a training step: losses, backward, SGD update.
        train_ratio: The same beside BN.
        paper_ratio: The papers' time of an iteration beside BN; None where they report none.
        peak_ratio: Memory at the peak of the step beside BN's, parameters and what layers keep included.
        peak_gb: The same in GB (1e9 bytes).
        state_mb: What the norms keep between iterations beyond BN, in MB.
        gflop: Convolutions and matrix products of a training step. They differ a little also because each
            norm leads to other proposals, hence to other numbers of positive RoIs.
        parameters: Number of parameters, in millions.
    """

    norm: str
    train_ms: float
    train_ratio: float
    paper_ratio: float | None
    peak_ratio: float
    peak_gb: float
    state_mb: float
    gflop: float
    parameters: float


def benchmark_model(
    config: Path, setting: Setting, rounds: int, images: int, size: tuple[int, int]
) -> list[Result]:
    """Measure a detector with each norm in its neck and heads, with random weights and images.

    Args:
        config: A config whose neck and heads take a ``norm_cfg``.
        setting: Device, type and memory format.
        rounds: How often each norm is timed.
        images: Images in a batch.
        size: Their height and width in pixels.
    """
    register_all_modules()
    measured = without_sync(MODEL_NORMS, setting.device)
    models = {name: _model(config, method, setting) for name, method in measured.items()}
    steps = {name: _training_step(model, setting, images, size) for name, model in models.items()}
    flops = {}
    for name, step in steps.items():
        step()
        settle(models[name])
        for _ in range(FILL):
            step()
        with FlopCounterMode(display=False) as counter:
            step()
        flops[name] = counter.get_total_flops()
    seconds = interleave(steps, rounds, 'training steps')
    kept = {name: kept_bytes(model) for name, model in models.items()}
    peak = {name: peak_memory(step, setting.device) + kept[name] for name, step in steps.items()}
    return [
        Result(
            norm=name,
            train_ms=median(seconds[name]) * 1e3,
            train_ratio=ratio(seconds, name, REFERENCE),
            paper_ratio=1 / PAPER_SPEED[name] if name in PAPER_SPEED else None,
            peak_ratio=peak[name] / peak[REFERENCE],
            peak_gb=peak[name] / 1e9,
            state_mb=(kept[name] - kept[REFERENCE]) / 1e6,
            gflop=flops[name] / 1e9,
            parameters=sum(p.numel() for p in models[name].parameters()) / 1e6,
        )
        for name in models
    ]


def _model(config: Path, method: Method, setting: Setting) -> nn.Module:
    cfg = deepcopy(Config.fromfile(config).model)
    cfg.backbone.init_cfg = None
    parts = {'norm_cfg': {'type': method.norm, **method.arguments}, 'conv_cfg': {'type': method.conv}}
    for part in (
        cfg.neck,
        *(cfg.roi_head[head] for head in ('bbox_head', 'mask_head') if head in cfg.roi_head),
    ):
        for key, value in parts.items():
            part[key] = value  # update() would merge it with the config's own norm
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    pair_conv_norm(model)
    return model.to(setting.device, memory_format=setting.memory_format).train()


def _training_step(
    model: nn.Module, setting: Setting, images: int, size: tuple[int, int]
) -> Callable[[], None]:
    batch = demo_mm_inputs(
        images,
        image_shapes=[(3, *size)] * images,
        num_items=[10] * images,
        num_classes=model.roi_head.bbox_head.num_classes,
        with_mask=True,
        device=str(setting.device),
    )
    # A rate so small that all norms go on to train on the same proposals.
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-8))

    def step() -> None:
        torch.manual_seed(0)  # the sampling of RoIs
        with setting.autocast():
            data = model.data_preprocessor(batch, training=True)
            losses = model(**data, mode='loss')
        loss, _ = model.parse_losses(losses)
        optimizer.update_params(loss)

    return step
