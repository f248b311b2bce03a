"""Where a run stands: its config, how far it came, what it measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .configs import changed_settings, find_config, published_results, read_dumped_config
from .runs import Run, find_tests, is_number, read_run, read_test_metrics

_SIZES = {'mAP': 'AP', 'mAP_50': 'AP50', 'mAP_75': 'AP75', 'mAP_s': 'AP S', 'mAP_m': 'AP M', 'mAP_l': 'AP L'}
_SHARES = {
    f'coco/{key}_{metric}': f'{kind} {size}'
    for key, kind in (('bbox', 'box'), ('segm', 'mask'))
    for metric, size in _SIZES.items()
}
METRICS = _SHARES | {'accuracy/top1': 'top-1', 'accuracy/top5': 'top-5', 'mIoU': 'mIoU'}
"""The columns of the papers' tables, ``box AP`` to ``mIoU``, by the names of MMEngine's logs."""


class ReportError(RuntimeError):
    """Nothing can be reported; the message says why."""


@dataclass(frozen=True)
class Entry:
    """What there is to report of a work folder.

    Attributes:
        work_dir: The folder.
        config: The config of the run, the bare name of one that is not of this package, or a dash.
        status: ``finished``, ``evaluated`` (a checkpoint, without training), ``unfinished``, ``failed``
            or ``unknown``.
        where: Where it stands, in words.
        changed: What it did otherwise than its config says, as behind ``--cfg-options``.
        ours: What was measured last, in percent, by the columns of :data:`METRICS`.
        published: What was published for the config, likewise, by who prints it: ``paper``, ``repository``.
        log: The log of the training; None in a folder without one.
    """

    work_dir: Path
    config: str
    status: str
    where: str
    changed: list[str]
    ours: dict[str, float]
    published: dict[str, dict[str, float]]
    log: Run | None

    @property
    def final(self) -> bool:
        """Whether ``ours`` is a result, and not a station on the way."""
        return self.status in ('finished', 'evaluated')

    @property
    def differences(self) -> dict[str, dict[str, float]]:
        """By how much a result is above what was published; empty where there is no result."""
        if not self.final:
            return {}
        return {
            source: {name: self.ours[name] - value for name, value in metrics.items() if name in self.ours}
            for source, metrics in self.published.items()
        }


def read_entry(work_dir: Path, configs: Path) -> Entry:
    """Read what there is to report of a work folder.

    A training counts before an evaluation in the same folder, unless that was one of the last epoch's
    checkpoint.

    Args:
        work_dir: The folder that training or evaluation were given with ``--work-dir``.
        configs: The folder of configs, one folder a method.

    Raises:
        ReportError: There is no such folder, or no run in it.
    """
    if not work_dir.is_dir():
        raise ReportError(f'there is no folder {work_dir}')
    starts = sorted(path.parent for path in work_dir.glob('*/vis_data'))
    if not starts:
        raise ReportError(f'no run in {work_dir}: a work folder holds TIME/vis_data, as MMEngine names it')
    try:
        log = read_run(work_dir)
        start = [path for path in starts if (path / 'vis_data/scalars.json').is_file()][-1]
    except FileNotFoundError:
        log, start = None, starts[-1]
    test = max(find_tests(work_dir), default=None)
    if test and log is None:
        start = test.parent

    used = _read_settings(start)
    name = _find_name(work_dir, start)
    config = find_config(name, used, configs) if used and name else None
    if log:
        status, where, ours = _describe_training(log, used, start, test)
    elif test:
        status, where, ours = 'evaluated', _checkpoint(used) or 'unknown checkpoint', _read_test(test)
    else:
        status, where, ours = 'failed', f'nothing was trained or evaluated, see {start}/*.log', {}
    if status in ('finished', 'evaluated') and not ours:
        where += '; no AP, so nothing was detected'
    return Entry(
        work_dir=work_dir,
        config=str(config.relative_to(configs.parent)) if config else name or '-',
        status=status,
        where=where,
        changed=changed_settings(config, used) if config else [],
        ours=ours,
        published=published_results(config) if config else {},
        log=log,
    )


def _describe_training(
    log: Run, used: Config | None, start: Path, test: Path | None
) -> tuple[str, str, dict[str, float]]:
    """Return status, where it stands, and the last metrics."""
    last = log.train[-1]
    unit, length, now = ('epoch', 'max_epochs', 'epoch') if log.by_epoch else ('iter', 'max_iters', 'step')
    total = _length(used, length)
    ours, after = (_percent(log.val[-1]), log.val[-1]['step']) if log.val else ({}, None)
    if test and test.parent > start and _checkpoint(_read_settings(test.parent)) == f'{unit}_{total}.pth':
        ours, after = _read_test(test), total

    words = {'epoch': 'epoch', 'iter': 'iteration'}
    where = f'{words[unit]} {last[now]}' + (f' of {total}' if total else '')
    if ours:
        name = min(ours, key=[*METRICS.values()].index)
        where += f'; {name} {ours[name]:.1f} after {words[unit]} {after}'
    where += f'; last log {_last_log(start)}'
    if not math.isfinite(last['loss']):
        return 'failed', f'loss is {last["loss"]}; {where}', ours
    if not total:
        return 'unknown', f'no readable config in the folder; {where}', ours
    if after == total:
        return 'finished', f'{total} {words[unit]}{"s" * (total > 1)}', ours
    return 'unfinished', where, ours


def _read_settings(start: Path) -> Config | None:
    try:
        return read_dumped_config(start / 'vis_data/config.py')
    except Exception:  # what reading a damaged one raises can be anything
        return None


def _length(used: Config | None, name: str) -> int | None:
    settings = used and used.get('train_cfg')
    total = settings.get(name) if isinstance(settings, Mapping) else None
    return total if isinstance(total, int) else None


def _find_name(work_dir: Path, start: Path) -> str | None:
    """Tell the config's name, which only the copy in the work folder bears, the newest run's."""
    copies = list(work_dir.glob('*.py'))
    if len(copies) > 1:
        used = start / 'vis_data/config.py'
        copies = [path for path in copies if used.is_file() and path.read_bytes() == used.read_bytes()]
    return copies[0].stem if len(copies) == 1 else None


def _checkpoint(used: Config | None) -> str | None:
    """Return the file name of the checkpoint that an evaluation loaded."""
    path = used and used.get('load_from')
    return Path(path).name if path and isinstance(path, str) else None


def _read_test(path: Path) -> dict[str, float]:
    try:
        return _percent(read_test_metrics(path.parents[1]))
    except ValueError:  # killed while it wrote
        return {}


def _percent(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Keep the papers' columns; COCO's -1 (no object of that size) and NaN are no numbers."""
    found = {key: metrics.get(key, -1) for key in METRICS}
    return {
        METRICS[key]: value * (100 if key in _SHARES else 1)
        for key, value in found.items()
        if is_number(value) and value >= 0
    }


def _last_log(start: Path) -> str:
    latest = max(path.stat().st_mtime for path in start.rglob('*'))
    return datetime.fromtimestamp(latest).strftime('%Y-%m-%d %H:%M')
