"""How long a trial takes."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache

from .evaluation import evaluate
from .measures import SEARCH
from .task import endless_batches, held_out_samples
from .trials import EPOCHS, Training, Trial

STEPS = 10  # that are timed, after as many that fill windows and caches


def trial_seconds(trial: Trial) -> float:
    """Estimate how long a trial takes on one thread, from a few of its steps."""
    step, evaluation = _measured(
        replace(trial, seed=0, images=1, burn_in=0, rate=SEARCH.rates[0], split='test')
    )
    return trial.all_iterations * step + EPOCHS * evaluation


@cache
def _measured(trial: Trial) -> tuple[float, float]:
    """Return the seconds of a training step and of an evaluation."""
    training = Training(trial)
    batches = list(endless_batches(trial.iteration_images, STEPS))
    for _ in range(2):
        start = time.perf_counter()
        for samples in batches:
            training.step(samples, lr=trial.rate)
        step = (time.perf_counter() - start) / STEPS
    held_out = held_out_samples(trial.split, trial.held_out)
    start = time.perf_counter()
    evaluate(training.network, held_out)
    return step, time.perf_counter() - start
