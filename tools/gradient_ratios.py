"""Measure how much a layer's batch statistics depend on the weights of earlier layers (CBN, Figure 6)."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from mmdet_cbn.analysis.compensation.gradient_ratios import MeanRatio, gradient_ratios, mean_ratios
from mmdet_cbn.analysis.compensation.gradient_ratios_plot import plot_gradient_ratios
from mmdet_cbn.analysis.compensation.normalized_convolutions import Call
from mmdet_cbn.whole_file import whole_file

PICTURES = ('.jpg', '.jpeg', '.png')


class ModelError(RuntimeError):
    """The model or its batch cannot be had; the message says why."""


def parse_args() -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
        epilog='example:\n  python tools/gradient_ratios.py resnet50 --weights DEFAULT --plot ratios.png',
    )
    parser.add_argument(
        'model', metavar='MODEL', help='name of a torchvision model, or an MMDetection config'
    )
    parser.add_argument('--checkpoint', metavar='FILE', help='take the weights from here')
    parser.add_argument('--weights', metavar='NAME', help="torchvision's pre-trained weights, e.g. DEFAULT")
    parser.add_argument(
        '--batch', type=int, metavar='N', help="images (default: 4, or the config's batch size)"
    )
    parser.add_argument(
        '--size', type=int, metavar='S', help='pixels of a side, torchvision only (default: 224)'
    )
    parser.add_argument(
        '--images',
        type=Path,
        metavar='DIR',
        help="photographs for a torchvision model (default: crops of scikit-learn's two); a detector gets "
        'images of its training set',
    )
    parser.add_argument(
        '--projections',
        type=int,
        default=64,
        metavar='P',
        help='most backward passes a layer and statistic: layers of up to P channels are exact, larger ones '
        'estimated (default: 64)',
    )
    parser.add_argument('--plot', type=Path, metavar='FILE.png', help='draw the ratios of all layers')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the ratios of all layers')
    args = parser.parse_args()
    if args.model.endswith('.py') and (args.size or args.images or args.weights):
        parser.error('--size, --images and --weights are for torchvision models: a config names its own')
    if args.weights and args.checkpoint:
        parser.error('--weights and --checkpoint: give one of them')
    if args.projections < 2:
        parser.error(f'--projections {args.projections}: at least 2 are needed to tell the error')
    if args.batch is not None and args.batch < 1:
        parser.error(f'--batch {args.batch}: at least 1 image is needed')
    if args.plot and args.plot.suffix != '.png':
        parser.error(f'--plot {args.plot}: the name has to end in .png')
    return args


def build_detector(args: Namespace) -> tuple[nn.Module, Callable[[nn.Module], Any]]:
    """Build the model of a config, and the forward pass of its first training batch."""
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope
    from mmengine.runner import Runner

    from mmdet_cbn.launch import LaunchError, check_data
    from mmdet_cbn.layers import pair_conv_norm

    if not Path(args.model).is_file():
        raise ModelError(f'there is no config {args.model}')
    cfg = Config.fromfile(args.model)
    try:
        check_data(cfg, ['train'])
    except LaunchError as error:
        raise ModelError(str(error)) from None
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    model = MODELS.build(cfg.model)
    pair_conv_norm(model)
    if not args.checkpoint:
        model.init_weights()
    cfg.train_dataloader.batch_size = args.batch or cfg.train_dataloader.batch_size
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    batch = model.data_preprocessor(next(iter(loader)), training=True)
    return model, lambda copy: copy(**batch, mode='loss')


def build_classifier(args: Namespace) -> tuple[nn.Module, Callable[[nn.Module], Any]]:
    """Build a model of torchvision, and the forward pass of a batch of photographs."""
    from torchvision import models

    try:
        model = models.get_model(args.model, weights=args.weights)
    except (ValueError, KeyError) as error:
        raise ModelError(f'{args.model}: {error}; a config ends in .py') from None
    batch = torch.stack(photographs(args.images, args.batch or 4, args.size or 224))
    return model, lambda copy: copy(batch)


def photographs(folder: Path | None, count: int, size: int) -> list[torch.Tensor]:
    """Cut random squares from pictures, as ImageNet is prepared for training."""
    from torchvision.io import ImageReadMode, read_image
    from torchvision.transforms import Compose, Normalize, RandomResizedCrop

    if folder is None:
        from sklearn.datasets import load_sample_images

        pictures = [torch.tensor(array).permute(2, 0, 1) for array in load_sample_images().images]
    else:
        paths = sorted(path for path in folder.rglob('*') if path.suffix.lower() in PICTURES)[:count]
        if not paths:
            raise ModelError(f'--images {folder}: there are no pictures ({", ".join(PICTURES)})')
        pictures = [read_image(str(path), ImageReadMode.RGB) for path in paths]
    cut = Compose(
        [
            RandomResizedCrop(size, antialias=True),
            lambda picture: picture / 255,
            Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    return [cut(pictures[number % len(pictures)]) for number in range(count)]


def load_weights(model: nn.Module, path: str) -> None:
    """Load a checkpoint, all of it."""
    from mmengine.runner import load_checkpoint

    from mmdet_cbn.checkpoints import CheckpointError
    from mmdet_cbn.launch.restricted_loading import restrict_loading

    restrict_loading()
    try:
        load_checkpoint(model, path, map_location='cpu', strict=True)
    except FileNotFoundError:
        raise ModelError(f'there is no checkpoint {path}') from None
    except CheckpointError as error:
        raise ModelError(str(error)) from None
    except RuntimeError as error:
        raise ModelError(f'{path} does not fit the model: {error}') from None


def to_text(means: Sequence[MeanRatio]) -> str:
    """Write the means as a table."""
    signs = {'mean': 'mu', 'mean_square': 'nu'}
    row = '{:<10}{:<7}{:>7}{:>9}{:>9}{:>9}  {}'.format
    lines = [row('statistic', 'r', 'layers', 'mean', '+-', 'largest', 'at')]
    for mean in means:
        numbers = (f'{value:.4f}' for value in (mean.value, mean.standard_error, mean.largest.value))
        lines.append(
            row(signs[mean.statistic], f'l - {mean.distance}', mean.layers, *numbers, mean.largest.layer)
        )
    return '\n'.join(lines)


def show_progress(calls: Iterable[Call]) -> Iterable[Call]:
    """Go over the layers, on a terminal with a bar."""
    return tqdm(calls, 'layers', leave=False, disable=None)


def main() -> None:
    """Measure, print, write."""
    args = parse_args()
    torch.manual_seed(0)
    try:
        model, forward = (build_detector if args.model.endswith('.py') else build_classifier)(args)
        if args.checkpoint:
            load_weights(model, args.checkpoint)
        ratios = gradient_ratios(model, forward, args.projections, progress=show_progress)
        print(to_text(mean_ratios(ratios)))
        if args.json:
            with whole_file(args.json) as partial:
                partial.write_text(json.dumps([asdict(ratio) for ratio in ratios], indent=1) + '\n')
        if args.plot:
            weights = args.weights or (Path(args.checkpoint).name if args.checkpoint else 'initial weights')
            with whole_file(args.plot) as partial:
                plot_gradient_ratios(ratios, partial, f'{Path(args.model).stem}, {weights}')
    except (ModelError, ValueError, OSError) as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
