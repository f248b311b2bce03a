"""Measure how well CBN can correct earlier statistics, on the study's task and network.

Each learning rate is a run of its own, from the same initial weights and on the same images. It stays as it
is for the whole run; apart from that, a run is one of the study.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import mean

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from mmdet_cbn.analysis.compensation.correction import ESTIMATES, CorrectionErrors, measure_correction
from mmdet_cbn.analysis.compensation.correction_plot import plot_correction
from mmdet_cbn.layers import CrossIterationBatchNorm2d
from mmdet_cbn.whole_file import whole_file

sys.path.append(str(Path(__file__).resolve().parents[1]))  # experiments is not installed

from experiments.digits.network import build_network
from experiments.digits.task import Samples, endless_batches
from experiments.digits.trials import LEARNING_RATE, make_optimizer

MOST_RATES = 4  # lines that can be told apart


def positive(text: str) -> float:
    """Read a number above 0."""
    value = float(text)
    if not value > 0:
        raise ArgumentTypeError(f'{text} is not above 0')
    return value


def parse_args() -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(
        description=__doc__.partition('\n')[0],
        formatter_class=RawDescriptionHelpFormatter,
        epilog='example:\n  python tools/correction.py --iterations 1000 --plot correction.png',
    )
    parser.add_argument(
        '--lr',
        nargs='+',
        type=positive,
        metavar='LR',
        help=f'at most {MOST_RATES} learning rates (default: 0.003 for each image of a batch, '
        'a quarter of it and four times as much)',
    )
    parser.add_argument('--batch-size', type=int, default=2, metavar='N', help='images (default: 2)')
    parser.add_argument('--window-size', type=int, default=8, metavar='K', help='k of CBN (default: 8)')
    parser.add_argument(
        '--burn-in', type=int, metavar='B', help='iterations with BN (default: a quarter of the run)'
    )
    parser.add_argument('--iterations', type=int, default=4000, metavar='T', help='of a run (default: 4000)')
    parser.add_argument('--probes', type=int, default=25, metavar='P', help='times to measure (default: 25)')
    parser.add_argument('--plot', type=Path, metavar='FILE.png', help='draw errors over lag and iteration')
    parser.add_argument(
        '--json',
        type=Path,
        metavar='FILE',
        help='write all errors, each run as it ends; runs that are there already are not repeated',
    )
    args = parser.parse_args()
    args.burn_in = args.iterations // 4 if args.burn_in is None else args.burn_in
    args.lr = args.lr or [LEARNING_RATE * args.batch_size * factor for factor in (0.25, 1, 4)]
    if len(args.lr) > MOST_RATES:
        parser.error(f'--lr: at most {MOST_RATES} learning rates fit into a picture, got {len(args.lr)}')
    if args.batch_size < 1 or args.probes < 1 or args.burn_in < 0:
        parser.error('--batch-size and --probes are at least 1, --burn-in at least 0')
    if args.window_size < 2:
        parser.error(f'--window-size {args.window_size}: a window of 1 has no earlier iterations')
    if args.iterations < args.window_size * (args.probes + 1):
        parser.error(
            f'--iterations {args.iterations}: {args.probes} probes with windows of {args.window_size} need '
            f'at least {args.window_size * (args.probes + 1)}'
        )
    if args.plot and args.plot.suffix != '.png':
        parser.error(f'--plot {args.plot}: the name has to end in .png')
    return args


def loss_function(model: nn.Module, batch: Samples) -> Tensor:
    """Return the cross entropy."""
    return cross_entropy(model(batch.images), batch.labels)


def measure(args: Namespace, lr: float) -> CorrectionErrors:
    """Train with CBN and measure on the way."""
    norm = partial(CrossIterationBatchNorm2d, window_size=args.window_size, burn_in=args.burn_in)
    model = build_network(norm).train()
    step = args.iterations // args.probes
    probes = range(step, args.iterations + 1, step)
    batches = endless_batches(args.batch_size, args.iterations)
    data = tqdm(batches, f'lr {lr:g}', args.iterations, leave=False, disable=None)
    lags = range(1, args.window_size)
    return measure_correction(model, data, make_optimizer(model, lr), loss_function, lags, probes)


def to_text(runs: Mapping[str, CorrectionErrors]) -> str:
    """Write the errors over the lag, late in the runs, as a table."""
    row = '{:<9}{:>4}  {:>9}{:>9}  {:>9}{:>9}{:>10}'.format
    lines = ['errors, later half of the run:  mean [std]          variance [relative]']
    lines.append(row('lr', 'lag', *ESTIMATES[:2], *ESTIMATES))
    for name, errors in runs.items():
        late = errors.over_lags()
        for place, lag in enumerate(errors.lags):
            values = [*late.mean[place, :2], *late.var[place]]
            lines.append(row(name.removeprefix('lr '), lag, *(f'{value:.2g}' for value in values)))
        spreads = [f'{spread:.2g}' for spread in (late.mean_spread, late.var_spread)]
        lines.append(row('', '', 'spread:', spreads[0], 'spread:', spreads[1], ''))
        loss = mean(errors.losses[len(errors.losses) // 2 :])
        lines.append(f'{"":<9}training loss, later half of the run: {loss:.2f}')
    return '\n'.join(lines)


def settings(args: Namespace) -> dict[str, int]:
    """Return what the runs of a file share."""
    return {
        name: getattr(args, name) for name in ('batch_size', 'window_size', 'burn_in', 'iterations', 'probes')
    }


def to_json(runs: Mapping[str, CorrectionErrors], shared: Mapping[str, int]) -> str:
    """Write everything that was measured; the attributes of CorrectionErrors say what it is."""
    plain = {
        name: {
            key: value if isinstance(value, list) else value.tolist() for key, value in vars(errors).items()
        }
        for name, errors in runs.items()
    }
    return json.dumps({'estimates': ESTIMATES, 'settings': dict(shared), 'runs': plain}) + '\n'


def from_json(path: Path, shared: Mapping[str, int]) -> dict[str, CorrectionErrors]:
    """Read what an earlier call wrote, nothing where there is no file.

    Raises:
        ValueError: It is no file of this program, or its runs are of other settings.
    """
    try:
        found = json.loads(path.read_text())
        runs, before = found['runs'].items(), found['settings']
        arrays = ('mean', 'var', 'mean_spread', 'var_spread')
        read = {
            name: CorrectionErrors(**{key: np.array(v) if key in arrays else v for key, v in errors.items()})
            for name, errors in runs
        }
    except FileNotFoundError:
        return {}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f'--json {path} holds no result of this program ({error}); delete it') from error
    if before != shared:
        raise ValueError(f'--json {path} is of other settings, {before}; delete it, or name another file')
    return read


def main() -> None:
    """Measure, print, write."""
    args = parse_args()
    try:
        known = from_json(args.json, settings(args)) if args.json else {}
        for lr in args.lr:
            if f'lr {lr:g}' not in known:
                known[f'lr {lr:g}'] = measure(args, lr)
                if args.json:
                    with whole_file(args.json) as partial:
                        partial.write_text(to_json(known, settings(args)))
        runs = {f'lr {lr:g}': known[f'lr {lr:g}'] for lr in args.lr}
        print(to_text(runs))
        if args.plot:
            title = (
                f'CBN on digits, batch size {args.batch_size}, k = {args.window_size}, burn-in {args.burn_in}'
            )
            with whole_file(args.plot) as partial:
                plot_correction(runs, partial, title, args.burn_in)
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
