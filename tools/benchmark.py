"""Time the norms in training and inference, and measure their memory, beside BN."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from dataclasses import asdict
from pathlib import Path

import torch

from mmdet_cbn.whole_file import whole_file

sys.path.append(str(Path(__file__).resolve().parents[1]))  # experiments is not installed

from experiments.benchmarks.growth import benchmark_growth
from experiments.benchmarks.layers import CASES, Setting, benchmark_case
from experiments.benchmarks.tables import to_markdown
from experiments.common.machine import machine

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / 'configs/_base_/cbn_mask-rcnn_r50_mmdet3.py'
DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


def parse_args() -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
        epilog='example:\n  python tools/benchmark.py layers --rounds 5 --json layers.json --plot layers.png',
    )
    commands = parser.add_subparsers(dest='command', required=True)
    layers = commands.add_parser('layers', help='convolution + norm + ReLU at the sizes of detectors')
    model = commands.add_parser('model', help='a training step of Mask R-CNN R-50-FPN 4conv1fc')
    growth = commands.add_parser('growth', help='CBN over window size, channels and images')
    for command, rounds in ((layers, 15), (model, 5), (growth, 9)):
        command.add_argument('--device', choices=CASES, default='cpu')
        command.add_argument('--dtype', choices=DTYPES, default='float32', help='half types: autocast')
        command.add_argument('--channels-last', action='store_true')
        command.add_argument('--rounds', type=int, default=rounds, help='interleaved runs of each norm')
        command.add_argument('--json', type=Path, metavar='FILE', help='write the figures')
        command.add_argument('--plot', type=Path, metavar='FILE.png', help='draw what was measured')
    model.add_argument('--config', type=Path, default=CONFIG, help='a two-stage detector')
    model.add_argument('--images', type=int, default=1, help='images in a batch')
    model.add_argument('--size', type=int, nargs=2, default=(256, 384), metavar=('HEIGHT', 'WIDTH'))
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f'--rounds {args.rounds}: at least 1 is needed')
    if args.plot and args.plot.suffix != '.png':
        parser.error(f'--plot {args.plot}: the name has to end in .png')
    args.device = torch.device(args.device)
    if args.device.type == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda: torch sees no GPU here')
    return args


def measure(args: Namespace) -> list[dict[str, str | float | None]]:
    """Run what the command line asks for."""
    memory_format = torch.channels_last if args.channels_last else torch.contiguous_format
    setting = Setting(args.device, DTYPES[args.dtype], memory_format)
    if args.command == 'layers':
        cases = CASES[args.device.type]
        return [asdict(result) for case in cases for result in benchmark_case(case, setting, args.rounds)]
    if args.command == 'growth':
        return [asdict(point) for point in benchmark_growth(setting, args.rounds)]
    from experiments.benchmarks.model import benchmark_model  # mmdet takes seconds to import

    results = benchmark_model(args.config, setting, args.rounds, args.images, tuple(args.size))
    return [asdict(result) for result in results]


def process_group(device: torch.device) -> None:
    """Give SyncBN, which works on GPUs alone, a group of one process."""
    if device.type == 'cuda':
        store = torch.distributed.HashStore()
        torch.distributed.init_process_group('nccl', store=store, rank=0, world_size=1)


def main() -> None:
    """Measure, print, and write what was asked for."""
    args = parse_args()
    process_group(args.device)
    rows = measure(args)
    where = machine(args.device)
    print(f'{where}, {args.dtype}{", channels_last" if args.channels_last else ""}\n')
    print(to_markdown(rows))
    if args.json:
        record = {'machine': where, 'command': sys.argv[1:], 'results': rows}
        with whole_file(args.json) as partial:
            partial.write_text(json.dumps(record, indent=1) + '\n')
    if args.plot:
        from experiments.benchmarks.plots import plot, plot_growth  # tables need no matplotlib

        draw = plot_growth if args.command == 'growth' else plot
        with whole_file(args.plot) as partial:
            draw(rows, partial, title=where)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == '__main__':
    main()
