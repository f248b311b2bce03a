"""Results on disk, one JSON file each, with the settings that they are of."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
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
    write_record(result_file(folder, trial), result)


def read_result(folder: Path, trial: Trial) -> dict[str, Any] | None:
    """Read the result of a trial.

    Returns:
        What ``run_trial`` returned, or None where the trial has not been run.

    Raises:
        StudyError: The file cannot be read, or holds the result of other settings.
    """
    return read_record(result_file(folder, trial), settings(trial))


def write_record(path: Path, result: dict[str, Any]) -> None:
    """Write a result with its ``settings``, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(result, indent=1, allow_nan=False) + '\n')


def read_record(
    path: Path, wanted: Mapping[str, Any], check: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, Any] | None:
    """Read what :func:`write_record` wrote.

    Args:
        path: The file.
        wanted: The settings that the result has to be of; others that it has do not count.
        check: Raises an error for a result in which something is missing.

    Returns:
        The result, or None where there is no file.

    Raises:
        StudyError: The file cannot be read, or holds the result of other settings.
    """
    try:
        result = json.loads(path.read_text())
        recorded = result['settings'].items()
        if check:
            check(result)
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise StudyError(f'{path} does not hold a result ({error}); delete it') from error
    other = [f'{name} {value!r}' for name, value in wanted.items() if (name, value) not in recorded]
    if other:
        raise StudyError(
            f'{path} was run with other settings than {", ".join(other)}; delete it, or give another --out'
        )
    return result
