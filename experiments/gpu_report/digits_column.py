"""The digits study at batch size 2, at one learning rate, trained on the device of the report."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..common.results import read_result
from ..common.seeds import summarize
from .parts import Keep, MissingError, Options

SEEDS = 3
WORKERS = 8  # that share a GPU
QUICK_METHODS = ('bn', 'cbn', 'mabn')


def run(options: Options, keep: Keep) -> None:
    """Train; ``keep`` gets the number of trials, and for each method what its finished seeds reached.

    Raises:
        MissingError: scikit-learn is not installed.
    """
    if find_spec('sklearn') is None:
        raise MissingError('scikit-learn is not installed, and the images are its handwritten digits')
    from ..digits.comparisons import FULL, SMALL_BATCH, make_comparisons
    from ..digits.measures import ACCURACY, TRAINING_LOSS
    from ..digits.norms import COMPETITORS
    from ..digits.runner import run_trials

    methods = QUICK_METHODS if options.quick else tuple(COMPETITORS)
    size = {'seeds': 1, 'images': 4} if options.quick else {'seeds': SEEDS}
    scale = replace(FULL, batch_sizes=(SMALL_BATCH,), **size)
    column, *_ = make_comparisons(scale, methods)
    settings = [row[SMALL_BATCH] for row in column.settings.values()]
    trials = [replace(setting, seed=seed) for seed in range(scale.seeds) for setting in settings]
    left = list(trials)
    cores = len(os.sched_getaffinity(0))
    workers = cores if options.device == 'cpu' else min(cores, WORKERS)
    data: dict[str, Any] = {'of': len(trials), 'seeds': scale.seeds, 'images': scale.images}
    data |= {'done': 0, 'methods': {}}
    keep(data)
    with TemporaryDirectory() as folder:
        found: dict[str, list[dict[str, Any]]] = {method: [] for method in COMPETITORS}
        for trial in run_trials(lambda: left, Path(folder), workers, options.device):
            left.remove(trial)
            results = found[trial.method]
            results.append(read_result(Path(folder), trial))
            data['done'] += 1
            data['methods'][trial.method] = {
                'label': COMPETITORS[trial.method].label,
                'accuracy': asdict(summarize(results, ACCURACY)),
                'training_loss': asdict(summarize(results, TRAINING_LOSS)),
                'seconds': sum(result['seconds'] for result in results),
            }
            keep(data)
