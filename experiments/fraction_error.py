"""Train with CBN and print what derivative_fraction would change in the corrected variances."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

import torch
from mmdet.utils import register_all_modules
from mmengine.config import Config, DictAction
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from mmdet_cbn.layers import CrossIterationBatchNorm2d, pair_conv_norm
from mmdet_cbn.layers.conv_call import read_call
from mmdet_cbn.layers.window import Window
from mmdet_cbn.ops import Derivatives, batch_moments, estimate_variance_derivative, mean_derivative
from mmdet_cbn.whole_file import whole_file

from .common.tables import markdown_table

NAIVE = 0.0  # no derivative at all: what Naive CBN does
FRACTIONS = (1 / 2, 1 / 4, 1 / 8, 1 / 16, NAIVE)


class FractionError:
    """Compares corrected statistics from estimated derivatives with the exact ones, along a training run.

    For each CBN layer and each fraction it keeps a window of its own beside the layer's, fed with the same
    activations. The run itself is not changed.

    Args:
        pairs: CBN layers with their convolutions.
        fractions: Fractions to compare with 1; ``NAIVE`` stands for no correction.
    """

    def __init__(
        self, pairs: Sequence[tuple[CrossIterationBatchNorm2d, nn.Conv2d]], fractions: Sequence[float]
    ) -> None:
        self.fractions = tuple(fractions)
        self._squares = {fraction: torch.zeros((), dtype=torch.float64) for fraction in self.fractions}
        self._count = 0
        self._windows: dict[tuple[nn.Module, float], Window] = {}
        self._handles = []
        for norm, conv in pairs:
            inputs: list[Tensor] = []
            self._handles += [
                conv.register_forward_pre_hook(lambda _, args, inputs=inputs: inputs.append(args[0])),
                norm.register_forward_pre_hook(
                    lambda norm, args, conv=conv, inputs=inputs: self._observe(
                        norm, conv, inputs.pop(), *args
                    )
                ),
            ]

    def errors(self) -> dict[float, float]:
        """Return the root mean square, over channels, layers and calls, of (var_bar / exact var_bar - 1)."""
        return {fraction: float(total / self._count) ** 0.5 for fraction, total in self._squares.items()}

    def remove(self) -> None:
        """Stop watching."""
        for handle in self._handles:
            handle.remove()

    @torch.no_grad()
    def _observe(self, norm: CrossIterationBatchNorm2d, conv: nn.Conv2d, x: Tensor, y: Tensor) -> None:
        if not (norm.training and norm.is_pooling and y.numel()):
            return
        moments = batch_moments(y)
        call = read_call(conv, x, moments.mean.dtype)
        of_mean = mean_derivative(call, y.shape[2:])
        pooled = {}
        for fraction in (1.0, *self.fractions):
            theta, entry = None, ()
            if fraction != NAIVE:
                theta = call.theta
                of_var = estimate_variance_derivative(call, y, moments.var, fraction)
                entry = (call, Derivatives(of_mean, of_var))
            key = norm, fraction
            if key not in self._windows:
                self._windows[key] = Window(norm.window_size, moments.mean, theta, conv.groups)
            window = self._windows[key]
            pooled_moments = window.average(moments, window.statistics(theta, call.bias))
            pooled[fraction] = pooled_moments.var
            window.push(pooled_moments, *entry)
        exact = pooled.pop(1.0).clamp(min=norm.eps)
        for fraction, found in pooled.items():
            self._squares[fraction] += (found / exact - 1).square().sum().double().cpu()
        self._count += norm.num_features


class FractionErrorHook(Hook):
    """Watches the run; prints a table after it, which stays in the work folder."""

    def before_train(self, runner: Runner) -> None:
        """Find the layers, paired once more."""
        names = pair_conv_norm(runner.model)
        pairs = [(runner.model.get_submodule(n), runner.model.get_submodule(c)) for n, c in names.items()]
        self.watch = FractionError(pairs, FRACTIONS)

    def after_train(self, runner: Runner) -> None:
        """Print and write the errors."""
        rows = [['derivative_fraction', 'RMS relative error of the pooled variance']]
        for fraction, error in self.watch.errors().items():
            name = 'no correction' if fraction == NAIVE else f'1/{round(1 / fraction)}'
            rows.append([name, f'{error:.2e}'])
        table = markdown_table(rows)
        print(table)
        with whole_file(Path(runner.work_dir) / 'fraction_error.md') as partial:
            partial.write_text(f'{table}\n')
        self.watch.remove()


def parse_args() -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(
        'python -m experiments.fraction_error',
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
        epilog='example:\n  CONFIG=configs/quickstart/mask-rcnn_r18_fpn_4conv1fc_cbn_shapes.py\n'
        '  python -m experiments.fraction_error $CONFIG --work-dir work_dirs/fraction',
    )
    parser.add_argument('config', help='a config that trains with CBN')
    parser.add_argument('--work-dir', required=True)
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args()


def main() -> None:
    """Train in one process."""
    args = parse_args()
    cfg = Config.fromfile(args.config)
    cfg.work_dir = args.work_dir
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    register_all_modules()
    runner = Runner.from_cfg(cfg)
    runner.register_hook(FractionErrorHook(), priority='LOWEST')
    runner.train()


if __name__ == '__main__':
    main()
