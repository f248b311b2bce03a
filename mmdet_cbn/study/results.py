"""Results of trials on disk, one JSON file each."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from .trials import Trial, settings


class StudyError(Exception):
    """Results cannot be used; the message says which, why and what to do."""


def result_file(folder: Path, trial: Trial) -> Path:
    """Return where the result of a trial lies."""
    return folder / f'{trial.name}.json'


def write_result(folder: Path, trial: Trial, result: dict[str, Any]) -> None:
    """Write a result under a temporary name, and rename the file when it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    path = result_file(folder, trial)
    partial = path.with_suffix(f'.{os.getpid()}.partial')
    try:
        partial.write_text(json.dumps(result, indent=1, allow_nan=False) + '\n')
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_result(folder: Path, trial: Trial) -> dict[str, Any] | None:
    """Read the result of a trial.

    Returns:
        What ``run_trial`` returned, or None where the trial has not been run.

    Raises:
        StudyError: The file cannot be read, or holds the result of other settings.
    """
    path = result_file(folder, trial)
    try:
        result = json.loads(path.read_text())
        recorded = result['settings'].items()
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudyError(f'{path} does not hold the result of a trial ({error}); delete it') from error
    other = [f'{name} {value!r}' for name, value in settings(trial).items() if (name, value) not in recorded]
    if other:
        raise StudyError(
            f'{path} was run with other settings than {", ".join(other)}; delete it, or give another --out'
        )
    return result
