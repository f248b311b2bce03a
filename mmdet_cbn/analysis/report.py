"""Where runs stand, and what they measured beside what the papers report."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from mmengine.config import Config
from terminaltables import GithubFlavoredMarkdownTable

from .experiments import changed_settings, find_config, paper_results, read_config
from .runs import Run, find_tests, read_run, read_test_metrics

_KINDS = {'bbox': 'box', 'segm': 'mask'}
_SIZES = {'mAP': 'AP', 'mAP_50': 'AP50', 'mAP_75': 'AP75', 'mAP_s': 'AP S', 'mAP_m': 'AP M', 'mAP_l': 'AP L'}
_COLUMNS = {
    f'coco/{key}_{metric}': f'{kind} {size}'
    for key, kind in _KINDS.items()
    for metric, size in _SIZES.items()
}
_SHOWN_CHANGES = 4


class ReportError(RuntimeError):
    """Folders of which no report can be made; the message says why."""


@dataclass(frozen=True)
class Entry:
    """What a report says of one work folder.

    Attributes:
        work_dir: The folder.
        config: The config of the run, its name where it is none of this package's, or a dash.
        status: ``finished``, ``evaluated`` (of a checkpoint, without training), ``unfinished``,
            ``failed`` or ``unknown``.
        where: Where it stands, in words.
        changed: What it did otherwise than its config says, as behind ``--cfg-options``.
        ours: What was measured last, in percent, by the column of the papers, e.g. ``box AP50``.
        paper: What the paper reports for the config, likewise.
        log: The log of the training; None in a folder without one.
    """

    work_dir: Path
    config: str
    status: str
    where: str
    changed: list[str] = field(default_factory=list)
    ours: dict[str, float] = field(default_factory=dict)
    paper: dict[str, float] = field(default_factory=dict)
    log: Run | None = None

    @property
    def final(self) -> bool:
        """Whether ``ours`` is a result, and not a station on the way."""
        return self.status in ('finished', 'evaluated')

    @property
    def difference(self) -> dict[str, float]:
        """By how much a result exceeds the paper's; empty for anything but a result."""
        if not self.final:
            return {}
        return {name: self.ours[name] - value for name, value in self.paper.items() if name in self.ours}


def read_entry(work_dir: Path, configs: Path) -> Entry:
    """Read what there is to report of a run.

    Args:
        work_dir: The folder that the run was given with ``--work-dir``.
        configs: The folder of configs, one folder a method.

    Returns:
        Its entry. A checkpoint of the last epoch that was evaluated with ``tools/test.py`` in the same
        folder after the training goes before the validation in training.

    Raises:
        ReportError: There is no such folder, or no run in it.
    """
    if not work_dir.is_dir():
        raise ReportError(f'there is no folder {work_dir}')
    starts = sorted(path.parent for path in work_dir.glob('*/vis_data'))
    if not starts:
        raise ReportError(
            f'no run in {work_dir}: a work folder holds TIME/vis_data folders, as MMEngine writes'
        )
    tests = find_tests(work_dir)
    try:
        log = read_run(work_dir)
    except FileNotFoundError:
        log = None
    if log:
        start = [path for path in starts if (path / 'vis_data/scalars.json').is_file()][-1]
    else:
        start = tests[-1].parent if tests else starts[-1]

    used = _read_settings(start)
    name = _find_name(work_dir, start)
    config = find_config(name, used, configs) if used and name else None
    tested = tests[-1].parent if tests and tests[-1].parent >= start else None
    checkpoint = _read_checkpoint(tested) if tested else None
    if log:
        status, where = _describe_training(log, used, checkpoint)
    elif tested:
        status, where = 'evaluated', checkpoint or 'a checkpoint'
    else:
        status, where = 'failed', 'nothing was trained or evaluated'
    metrics = read_test_metrics(work_dir) if status == 'evaluated' or checkpoint in where else {}
    return Entry()
