"""Reporting on folders that are wrong, or to places where nothing can be written."""

from pathlib import Path

from tests.helpers.wrong_input import Case, each_of

REPORT = 'tools/report.py'


def logged(folder: Path) -> None:
    """A work folder of a run that trained one iteration."""
    path = folder / 'run/20250101_000000/vis_data/scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('{"loss": 1.0, "epoch": 1, "iter": 1, "step": 1}\n')


CASES = [
    Case('report-of-nothing', ('required: WORK_DIR',), ()),
    Case('report-of-no-folder', ('no folder nowhere',), ('nowhere', '--out', 'new.md')),
    Case('report-of-no-run', ('no run in shapes', 'TIME/vis_data'), ('shapes', '--out', 'new.md')),
    Case('report-curves-as-jpeg', ('--curves a.jpg', '.png'), ('shapes', '--curves', 'a.jpg')),
    Case('report-of-unknown-format', ("invalid choice: 'html'", 'csv'), ('shapes', '--format', 'html')),
    Case(
        'report-below-a-file',
        ('config.py', 'a file is in the place of a folder', 'another path'),
        ('run', '--out', 'config.py/new.md'),
        spoil=logged,
    ),
    Case(
        'report-into-a-folder',
        ('shapes', 'is a folder', 'name of a file'),
        ('run', '--out', 'shapes'),
        spoil=logged,
    ),
]


@each_of(CASES)
def test_ends_with_one_message(case, check):
    check(REPORT, case)
