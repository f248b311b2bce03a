"""Results that a study recorded elsewhere, one line a run, so that it can go on here."""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path

from .results import Run, StudyError, result_file, write_result

_PARSERS = {'str': str, 'int': int, 'float': float}


def restore(path: Path, kind: type[Run], folder: Path, curves: Collection[str]) -> None:
    """Write the results that a study's CSV file holds, of each curve the last value, where there are none.

    Args:
        path: What :func:`.to_csv` returned.
        kind: Of the runs: a dataclass, whose fields are strings and numbers.
        folder: Where results lie.
        curves: Names of what a result holds for each epoch.

    Raises:
        StudyError: The file is none of this study, or a line is of other settings than this code has. Nothing
            has been written then.
    """
    with path.open(newline='') as stream:
        lines = list(csv.DictReader(stream))
    results = {}
    for number, line in enumerate(lines, 2):
        try:
            run = kind(**{field.name: _PARSERS[field.type](line[field.name]) for field in fields(kind)})
            here = {name: '' if value is None else str(value) for name, value in run.settings.items()}
            other = [name for name, value in here.items() if line[name] != value]
            result = {name: [float(line[name])] if line[name] else [] for name in curves}
            about = {
                'diverged': int(line['diverged']) if line['diverged'] else None,
                'seconds': float(line['seconds']),
                'torch': line['torch'],
            }
        except (LookupError, ValueError, TypeError) as error:
            raise StudyError(f'line {number} of {path} is not a result of this study ({error!r})') from error
        if other:
            raise StudyError(
                f'line {number} of {path} was run with other settings than this code has: '
                + ', '.join(f'{name} {line[name]!r} there, {here[name]!r} here' for name in other)
            )
        results[run] = result | about
    for run, result in results.items():
        if not result_file(folder, run).exists():
            write_result(folder, run, result)
