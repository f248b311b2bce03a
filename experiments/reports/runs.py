"""Reading what MMEngine logged in a work folder."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, float]


@dataclass(frozen=True)
class Run:
    """The log of a training run, restarts included.

    Attributes:
        train: A row for each logged iteration: ``step`` (iterations from 1), ``loss`` and its parts, ``lr``,
            ``time`` (seconds an iteration), and, in training by epochs, ``epoch``.
        val: A row for each validation: ``step`` (epochs, or iterations in training by iterations) and
            the metrics, e.g. ``coco/bbox_mAP``.
    """

    train: list[Row]
    val: list[Row]

    @property
    def by_epoch(self) -> bool:
        """Whether ``step`` counts epochs in ``val``."""
        return any('epoch' in row for row in self.train)


def read_run(work_dir: str | Path) -> Run:
    """Read the log of a training run.

    A restart writes a log of its own. What it trained again replaces what was logged before.

    Args:
        work_dir: The folder that the run was given with ``--work-dir``.

    Returns:
        Losses and metrics in the order of their steps.

    Raises:
        FileNotFoundError: No training has been logged there.
    """
    train: list[Row] = []
    val: list[Row] = []
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        rows = _read_lines(path)
        losses = [row for row in rows if 'loss' in row]
        if losses:  # a restart that was not evaluated yet
            val = [row for row in val if row['step'] < losses[0].get('epoch', losses[0]['step'])]
        train = _continue(train, losses)
        val = _continue(val, [row for row in rows if 'loss' not in row])
    if any('epoch' in row for row in train):
        train = [row for row in train if 'epoch' in row]
    if not train:
        raise FileNotFoundError(f'no log of a training in {work_dir} (looked for */vis_data/scalars.json)')
    return Run(train, val)


def find_tests(work_dir: str | Path) -> list[Path]:
    """Find what evaluations with ``tools/test.py`` left in a work folder.

    Args:
        work_dir: The folder that the evaluations were given with ``--work-dir``.

    Returns:
        The files ``TIME/TIME.json``, the oldest first.
    """
    return sorted(path for path in Path(work_dir).glob('*/*.json') if path.stem == path.parent.name)


def read_test_metrics(work_dir: str | Path) -> dict[str, Any]:
    """Read what the last evaluation with ``tools/test.py`` measured.

    Args:
        work_dir: The folder that the evaluation was given with ``--work-dir``.

    Returns:
        The metrics, e.g. ``coco/bbox_mAP``.

    Raises:
        FileNotFoundError: No evaluation has been logged there.
        ValueError: The log is damaged.
    """
    paths = find_tests(work_dir)
    if not paths:
        raise FileNotFoundError(f'no log of an evaluation in {work_dir} (looked for TIME/TIME.json)')
    # MMEngine (0.10) has every process write this file, so the end of a longer text may follow it.
    metrics = json.JSONDecoder().raw_decode(paths[-1].read_text())[0]
    if not isinstance(metrics, dict):
        raise ValueError(f'{paths[-1]} holds no metrics')
    return metrics


def is_number(value: object) -> bool:
    """Tell whether a value of a log is a number, be it NaN, that fits into 64 bits."""
    return isinstance(value, float) or type(value) is int and abs(value) < 2**63


def _read_lines(path: Path) -> list[Row]:
    rows = []
    for line in path.read_text(errors='replace').splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # the last line of a run that was killed while it wrote
            continue
        numbers = {key: value for key, value in row.items() if is_number(value)} if type(row) is dict else {}
        if math.isfinite(numbers.get('step', math.nan)):
            rows.append(numbers)
    return rows


def _continue(before: list[Row], after: list[Row]) -> list[Row]:
    if not after:
        return before
    return [row for row in before if row['step'] < after[0]['step']] + after
