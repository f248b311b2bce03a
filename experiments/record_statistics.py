"""Train on the study's task and record what the batch norms do, beside a larger reference batch.

The learning rate, 0.003 for each image of a batch, stays as it is for the whole run.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from mmdet_cbn.analysis.statistics.recorder import StatisticsRecorder
from mmdet_cbn.layers.window import Window

from .common.argument_types import positive_integer
from .digits.network import build_network
from .digits.norms import COMPETITORS, SYNC, make_norm
from .digits.task import endless_batches, training_samples
from .digits.trials import LEARNING_RATE, make_optimizer

BURN_IN = 0.25  # of the run, for CBN's window
# In one process SyncBN is BN.
BATCH_NORMS = [
    name for name in COMPETITORS if name != SYNC and issubclass(COMPETITORS[name].norm, _BatchNorm)
]


def parse_args() -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(
        'python -m experiments.record_statistics',
        description=__doc__.partition('\n')[0],
        formatter_class=RawDescriptionHelpFormatter,
        epilog='example:\n  python -m experiments.record_statistics --method cbn --out cbn.npz',
    )
    parser.add_argument('--method', required=True, choices=BATCH_NORMS)
    parser.add_argument(
        '--batch-size', type=positive_integer, default=2, metavar='N', help='images (default: 2)'
    )
    parser.add_argument(
        '--iterations', type=positive_integer, default=2000, metavar='T', help='of the run (default: 2000)'
    )
    parser.add_argument(
        '--reference',
        type=positive_integer,
        default=128,
        metavar='N',
        help='images of the reference (default: 128)',
    )
    parser.add_argument(
        '--interval',
        type=positive_integer,
        default=50,
        metavar='T',
        help='iterations between references (default: 50)',
    )
    parser.add_argument('--out', type=Path, required=True, metavar='FILE.npz', help='where it is written')
    args = parser.parse_args()
    if args.out.suffix != '.npz':
        parser.error(f'--out {args.out}: the name has to end in .npz')
    return args


def record(args: Namespace) -> tuple[StatisticsRecorder, float]:
    """Train, and return what was recorded and the mean loss of the later half of the run."""
    window_size, burn_in = Window.size_for(args.batch_size), round(BURN_IN * args.iterations)
    norm = make_norm(args.method, window_size, burn_in, args.iterations)
    model = build_network(norm, COMPETITORS[args.method].conv).train()
    optimizer = make_optimizer(model, LEARNING_RATE * args.batch_size)
    batches = endless_batches(args.batch_size, args.iterations)
    # Images of another seed, so none that the run trains with.
    reference = training_samples(1, 0, args.reference).images
    losses = []
    with StatisticsRecorder(model, limit=max(2, args.iterations)) as recorder:
        data = tqdm(batches, args.method, args.iterations, leave=False, disable=None)
        for iteration, batch in enumerate(data, 1):
            loss = cross_entropy(model(batch.images), batch.labels)
            optimizer.zero_grad()
            loss.backward()
            if iteration % args.interval == 0:
                with recorder.reference():
                    model(reference)
            optimizer.step()
            losses.append(loss.item())
    late = losses[len(losses) // 2 :]
    return recorder, sum(late) / len(late)


def main() -> None:
    """Train, write, say how well it learned."""
    args = parse_args()
    try:
        recorder, loss = record(args)
        recorder.save(args.out)
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
    print(f'{args.out}: training loss, later half of the run: {loss:.2f}')


if __name__ == '__main__':
    main()
