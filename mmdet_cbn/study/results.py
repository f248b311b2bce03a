"""Results of trials on disk, one JSON file each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..whole_file import whole_file
from .trials import Trial, settings


class StudyError(Exception):
    """Results cannot be used; the message says which, why and what to do."""


def result_file(folder: Path, trial: Trial) -> Path:
    """Return where the result of a trial lies."""
    return folder / f'{trial.name}.json'


def write_result(folder: Path, trial: Trial, result: dict[str, Any]) -> None:
    """Write a result, whole or not at all."""
    with whole_file(result_file(folder, trial)) as partial:
        partial.write_text(json.dumps(result, indent=1, allow_nan=False) + '\n')


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
