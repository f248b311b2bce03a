"""Training the detectors of the study one at a time, and keeping what each reached in a file."""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any, TextIO

import torch

from mmdet_cbn.whole_file import whole_file

from ..common import results
from ..common.results import StudyError
from ..reports.runs import read_run
from .configs import backbone, config_text, pretraining_text
from .regimes import REGIMES
from .statistics_hook import FILE
from .trials import DetectionRun

BOX_METRICS = {'box_ap': 'coco/bbox_mAP'}
METRICS = {**BOX_METRICS, 'mask_ap': 'coco/segm_mAP'}
STATISTICS = {'running': '', 'slow': 'slow_', 'population': 'population_'}
PRETRAINING = 'pretraining'
PRETRAINING_EPOCHS = 8
_PATIENCE = 60  # seconds; torchrun gives its processes 30 to end


def result_folder(out: Path) -> Path:
    """Return where the results of a study lie."""
    return out / 'results'


def read_result(out: Path, run: DetectionRun) -> dict[str, Any] | None:
    """Read the result of a run.

    Returns:
        What :func:`measure` returned, with ``settings``, ``seconds`` and ``torch``, or None where the run has
        not ended.

    Raises:
        StudyError: The file cannot be read, or holds the result of other settings.
    """
    return results.read_result(result_folder(out), run, _check)


def _check(result: dict[str, Any]) -> None:
    metrics = _metrics(result['settings']['regime'])
    curves = [f'{prefix}{name}' for prefix in STATISTICS.values() for name in metrics]
    if not result['diverged'] and not all(math.isfinite(result[name][-1]) for name in curves):
        raise ValueError('numbers are missing')


def _metrics(regime: str) -> Mapping[str, str]:
    return BOX_METRICS if REGIMES[regime].retinanet else METRICS


def train_and_write(run: DetectionRun, root: Path, out: Path, lock: TextIO) -> None:
    """Train and evaluate a detector in a clean folder, and write its result, whole or not at all.

    Args:
        run: What to train.
        root: The checkout with the folders ``configs`` and ``tools``.
        out: The folder of the study, with the data sets, and the weights where the regime has them.
        lock: What :func:`only_study` gave.

    Raises:
        StudyError: The run failed; the message names its log.
    """
    start = time.perf_counter()
    work_dir = _train(run.name, config_text(run, root, out.resolve()), run.processes, root, out, lock)
    seconds = time.perf_counter() - start
    about = {'seconds': round(seconds, 1), 'torch': torch.__version__}
    result = measure(work_dir, _metrics(run.regime)) | about
    results.write_result(result_folder(out), run, result)


def pretrain(processes: int, root: Path, out: Path, lock: TextIO, epochs: int = PRETRAINING_EPOCHS) -> None:
    """Train the detector whose backbone the runs of that regime begin with, unless it is there."""
    weights = backbone(out)
    if not weights.exists():
        text = pretraining_text(root, out.resolve(), epochs)
        work_dir = _train(PRETRAINING, text, processes, root, out, lock)
        (work_dir / f'epoch_{epochs}.pth').rename(weights)


def _train(name: str, config_text: str, processes: int, root: Path, out: Path, lock: TextIO) -> Path:
    """Train by a config in a clean folder, and return that."""
    config = out / 'configs' / f'{name}.py'
    with whole_file(config) as partial:
        partial.write_text(config_text)
    work_dir = out / 'runs' / name
    shutil.rmtree(work_dir, ignore_errors=True)
    work_dir.mkdir(parents=True)
    log = work_dir / 'output.log'
    command = ['bash', str(root / 'tools' / 'dist_train.sh'), str(config), str(processes)]
    if status := _run_whole([*command, '--work-dir', str(work_dir)], log, lock):
        raise StudyError(f'the run {name} failed (exit status {status}); what it said is in {log}')
    return work_dir


def measure(work_dir: Path, metrics: Mapping[str, str] = METRICS) -> dict[str, Any]:
    """Read what a finished run reached.

    Args:
        work_dir: Of the run.
        metrics: Names of MMDetection's metrics by those that they have here.

    Returns:
        ``training_loss``, the mean of each epoch; ``diverged``, the epoch, counted from 1, in which the loss
        became inf or nan, or None; the metrics, from 0 to 1 (0 where nothing was detected), with running
        statistics, and the same behind ``slow_`` and ``population_``, with those of a momentum that suits the
        batch and with population statistics: one value each.

    Raises:
        StudyError: The run was not validated.
    """
    try:
        log = read_run(work_dir)
    except FileNotFoundError as error:
        raise StudyError(str(error)) from None
    try:
        found = json.loads((work_dir / FILE).read_text())
    except FileNotFoundError:
        raise StudyError(
            f'the run in {work_dir} ended without a validation; see the output.log there'
        ) from None
    # MMDetection reports no metric where there are no detections at all.
    aps = {
        f'{prefix}{name}': [found[kind].get(metric, 0.0)]
        for kind, prefix in STATISTICS.items()
        for name, metric in metrics.items()
    }
    epochs: dict[int, list[float]] = {}
    for row in log.train:
        epochs.setdefault(int(row['epoch']), []).append(row['loss'])
    losses = [mean(values) for _, values in sorted(epochs.items())]
    lost = (epoch for epoch, loss in enumerate(losses, 1) if not math.isfinite(loss))
    diverged = next(lost, None)
    return {**aps, 'training_loss': losses[: diverged and diverged - 1], 'diverged': diverged}


@contextmanager
def only_study(out: Path) -> Iterator[TextIO]:
    """Keep other studies out of a folder.

    The runs hold the lock as well: it outlasts a study that was killed for as long as its last run goes on.

    Yields:
        An open file, for :func:`train_and_write`.

    Raises:
        StudyError: A study is at work there.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / '.lock').open('w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StudyError(
                f'a study, or a run that it left behind, is at work in {out}; wait for it, or give another '
                '--out'
            ) from None
        yield lock


def _run_whole(command: list[str], log: Path, lock: TextIO) -> int:
    """Run a command to its end; where the caller is stopped, end it and all that it started."""
    environment: Mapping[str, str] = {**os.environ, 'PYTHON': sys.executable}
    with (
        log.open('w') as stream,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=[lock.fileno()],
            start_new_session=True,
        ) as process,
    ):
        try:
            return process.wait()
        except BaseException:
            _end(process)
            raise


def _end(process: subprocess.Popen) -> None:
    """End a process group, torchrun in it, which ends its processes."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(_PATIENCE)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
