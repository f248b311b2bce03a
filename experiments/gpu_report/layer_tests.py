"""The tests of the layers that need a GPU, with torch and pytest alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .parts import Keep, Options

ROOT = Path(__file__).resolve().parents[2]
SELECTION = ('-m', 'gpu', 'tests/layers', 'tests/ops')


def run(options: Options, keep: Keep) -> str | None:
    """Run the tests; ``keep`` gets their outcomes by name, with messages, and how many there are."""
    os.environ['PYTEST_DISABLE_PLUGIN_AUTOLOAD'] = '1'  # whatever else lies about on the machine
    os.chdir(ROOT)
    import pytest

    outcomes = _Outcomes(keep)
    status = pytest.main([*SELECTION, '-q', '-p', 'no:cacheprovider'], plugins=[outcomes])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise RuntimeError(f'pytest ended with {status!r}')
    failed = sum(test['outcome'] == 'failed' for test in outcomes.data['tests'].values())
    return f'{failed} of {outcomes.data["of"]} failed' if failed else None


class _Outcomes:
    """A plugin of pytest."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self.data: dict[str, Any] = {'command': f'pytest {" ".join(SELECTION)}', 'of': 0, 'tests': {}}

    def pytest_collection_finish(self, session: Any) -> None:
        self.data['of'] = len(session.items)
        self._keep(self.data)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when != 'call' and report.passed:
            return
        test = {'outcome': report.outcome}
        if report.skipped:
            *_, reason = report.longrepr
            test['message'] = reason.removeprefix('Skipped: ')
        elif report.failed:
            test['message'] = report.longreprtext
        self.data['tests'][report.nodeid] = test
        self._keep(self.data)
