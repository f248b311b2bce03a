"""Draw what the statistics of batch norms did along training runs (MABN, Figures 2 to 4).

A RUN is what StatisticsRecorder, StatisticsHook or experiments.record_statistics wrote. Each layer has a
picture LAYER.png with the l2 norms of its statistics, and LAYER_errors.png where distances from a reference
batch or CBN's correction were recorded, and a table of the later half of each run is printed: how much the
logarithm of a statistic's norm changes from one record to the next, and its mean distance from the reference.
Runs are drawn in the order given: the small batch first, the regular one over it.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from mmdet_cbn.analysis.statistics.file import LayerStatistics, read_statistics
from mmdet_cbn.analysis.statistics.plot import MOST_RUNS, plot_errors, plot_norms
from mmdet_cbn.analysis.statistics.summary import table

sys.path.append(str(Path(__file__).resolve().parents[1]))  # experiments is not installed

from experiments.common.tables import text_table

MOST_LAYERS = 6  # that are drawn unless --layers asks for more


def parse_args() -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
        epilog='example:\n  python tools/plot_statistics.py BN=bn.npz CBN=work_dirs/cbn --out pictures',
    )
    parser.add_argument(
        'runs', nargs='+', metavar='RUN', help='FILE.npz, or a folder with one below it, or LABEL=either'
    )
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='where the pictures go')
    parser.add_argument(
        '--layers',
        nargs='+',
        metavar='PATTERN',
        help=f'draw all layers whose names match (default: {MOST_LAYERS} from first to last)',
    )
    args = parser.parse_args()
    if len(args.runs) > MOST_RUNS:
        parser.error(f'at most {MOST_RUNS} runs can be told apart in one picture, got {len(args.runs)}')
    return args


def read_runs(runs: Sequence[str]) -> dict[str, dict[str, LayerStatistics]]:
    """Read the runs by their labels.

    Raises:
        ValueError: A file is missing or cannot be read, or two runs have the same label.
    """
    read = {}
    for run in runs:
        label, _, path = ('', '', run) if Path(run).exists() else run.rpartition('=')
        label = label or Path(path).stem
        if label in read:
            raise ValueError(f'two runs are called {label!r}: name them, as in LABEL={path}')
        read[label] = read_statistics(find_file(Path(path)))
    return read


def find_file(path: Path) -> Path:
    """Return the file itself, or the only one below a folder."""
    if not path.is_dir():
        return path
    files = sorted(path.rglob('*.npz'))
    if len(files) != 1:
        found = ', '.join(map(str, files)) or 'none'
        raise ValueError(f'{path} should have one .npz file below it, there is {found}')
    return files[0]


def choose_layers(
    runs: dict[str, dict[str, LayerStatistics]], patterns: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """Return the layers to draw and all that the runs have in common, in the order of the model."""
    first, *others = runs.values()
    common = [name for name in first if all(name in other for other in others)]
    if not common:
        raise ValueError(
            'the runs have no layer in common: ' + '; '.join(', '.join(run) for run in runs.values())
        )
    if patterns is None:
        count = min(MOST_LAYERS, len(common))
        return [
            common[round(place * (len(common) - 1) / max(1, count - 1))] for place in range(count)
        ], common
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in common):
            raise ValueError(f'--layers: {pattern!r} matches none of {", ".join(common)}')
    return [name for name in common if any(fnmatchcase(name, pattern) for pattern in patterns)], common


def draw(runs: dict[str, dict[str, LayerStatistics]], name: str, folder: Path) -> list[Path]:
    """Draw a layer, and return the pictures."""
    layers = {label: run[name] for label, run in runs.items()}
    title = f'layer {name}: {", ".join(dict.fromkeys(layer.kind for layer in layers.values()))}'
    stem = name.replace('/', '_') or 'model'
    norms, errors = folder / f'{stem}.png', folder / f'{stem}_errors.png'
    plot_norms(layers, norms, title)
    return [norms, errors] if plot_errors(layers, errors, title) else [norms]


def main() -> None:
    """Read, choose, draw, and print what the pictures show."""
    args = parse_args()
    try:
        runs = read_runs(args.runs)
        chosen, common = choose_layers(runs, args.layers)
        if len(chosen) < len(common):
            print(f'{len(chosen)} of {len(common)} layers: {", ".join(chosen)}')
        for name in chosen:
            for path in draw(runs, name, args.out):
                print(path)
            print(text_table(table({label: run[name] for label, run in runs.items()})))
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
