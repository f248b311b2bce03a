"""Train with CBN and print what derivative_fraction would change in the corrected variances."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from mmdet.utils import register_all_modules
from mmengine.config import Config, DictAction
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdet_cbn.analysis.compensation.fraction_error import NAIVE, FractionError
from mmdet_cbn.layers import pair_conv_norm

FRACTIONS = (1 / 2, 1 / 4, 1 / 8, 1 / 16, NAIVE)


class FractionErrorHook(Hook):
    """Watches the run, and prints a table after it."""

    def before_train(self, runner: Runner) -> None:
        """Find the layers, paired once more."""
        names = pair_conv_norm(runner.model)
        pairs = [(runner.model.get_submodule(n), runner.model.get_submodule(c)) for n, c in names.items()]
        self.watch = FractionError(pairs, FRACTIONS)

    def after_train(self, runner: Runner) -> None:
        """Print the errors."""
        print('| derivative_fraction | RMS relative error of the pooled variance |\n| --- | --- |')
        for fraction, error in self.watch.errors().items():
            name = 'no correction' if fraction == NAIVE else f'1/{round(1 / fraction)}'
            print(f'| {name} | {error:.2e} |')
        self.watch.remove()


def parse_args() -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(description=__doc__)
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
