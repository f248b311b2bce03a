"""Results on disk, one JSON file a run, with the settings that they are of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from mmdet_cbn.whole_file import whole_file

Result = dict[str, Any]


class StudyError(Exception):
    """Results cannot be used; the message says which, why and what to do."""


class Run(Protocol):
    """What has a result."""

    @property
    def name(self) -> str:
        """What distinguishes it from the others of its study, as one word."""

    @property
    def settings(self) -> dict[str, Any]:
        """What its result depends on, apart from code."""


def result_file(folder: Path, run: Run) -> Path:
    """Return where the result of a run lies."""
    return folder / f'{run.name}.json'


def write_result(folder: Path, run: Run, result: Result) -> None:
    """Write a result with the settings of its run, whole or not at all."""
    text = json.dumps({'settings': run.settings, **result}, indent=1, allow_nan=False)
    with whole_file(result_file(folder, run)) as partial:
        partial.write_text(text + '\n')


def read_result(folder: Path, run: Run, check: Callable[[Result], object] | None = None) -> Result | None:
    """Read what :func:`write_result` wrote.

    Args:
        folder: Where the results are.
        run: Whose result to read; settings that the file has beyond those of the run do not count.
        check: Raises an error for a result in which something is missing.

    Returns:
        The result and its ``settings``, or None where there is no file.

    Raises:
        StudyError: The file cannot be read, or holds the result of other settings.
    """
    path = result_file(folder, run)
    try:
        result = json.loads(path.read_text())
        recorded = result['settings'].items()
        if check:
            check(result)
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise StudyError(f'{path} does not hold a result ({error}); delete it') from error
    other = [f'{name} {value!r}' for name, value in run.settings.items() if (name, value) not in recorded]
    if other:
        raise StudyError(
            f'{path} was run with other settings than {", ".join(other)}; delete it, or give another --out'
        )
    return result
