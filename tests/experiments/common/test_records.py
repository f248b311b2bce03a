"""Results that were recorded on another machine: taken as they are, or refused."""

import pytest

from experiments.common.records import restore
from experiments.common.results import StudyError, read_result, write_result
from experiments.common.study_tables import to_csv
from experiments.digits.measures import CURVES
from experiments.digits.trials import Trial

TRIALS = [
    Trial('cbn', 2, 1, 600, window_size=8, burn_in=3, workers=8, split='validation'),
    Trial('mabn', 2, 0, 600, rate=0.01),
]


def result(number: float, diverged: int | None = None) -> dict:
    curves = {name: [] if diverged else [number / 3, number / 7] for name in CURVES}
    return {**curves, 'diverged': diverged, 'seconds': 1.5, 'torch': '2.11.0'}


@pytest.fixture
def csv_file(tmp_path):
    for trial, diverged in zip(TRIALS, (2, None), strict=True):
        write_result(tmp_path / 'there', trial, result(0.1, diverged))
    path = tmp_path / 'trials.csv'
    path.write_text(to_csv([read_result(tmp_path / 'there', trial) for trial in TRIALS], CURVES))
    return path


def test_records_hold_what_the_results_reached_last(tmp_path, csv_file):
    restore(csv_file, Trial, tmp_path / 'here', CURVES)
    for trial in TRIALS:
        there, here = (read_result(tmp_path / name, trial) for name in ('there', 'here'))
        assert here == there | {name: there[name][-1:] for name in CURVES}


def test_results_that_are_there_stay(tmp_path, csv_file):
    write_result(tmp_path / 'here', TRIALS[1], result(0.2))
    restore(csv_file, Trial, tmp_path / 'here', CURVES)
    assert read_result(tmp_path / 'here', TRIALS[1])['accuracy'] == result(0.2)['accuracy']


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        (
            'buffer_size=16',
            'buffer_size=8',
            'line 3 of .* other settings .*: norm .*buffer_size=8.* there',
        ),
        ('mabn,2,', 'mabn,two,', 'line 3 of .* is not a result .*two'),
        ('warm_up_epochs', 'epochs_of_warm_up', 'line 2 of .* is not a result .*warm_up_epochs'),
        ('mabn,2,', 'unknown,2,', 'line 3 of .* is not a result .*unknown'),
    ],
)
def test_what_is_refused(tmp_path, csv_file, old, new, message):
    text = csv_file.read_text()
    assert old in text
    csv_file.write_text(text.replace(old, new))
    with pytest.raises(StudyError, match=message):
        restore(csv_file, Trial, tmp_path / 'here', CURVES)
    assert not (tmp_path / 'here').exists()


def test_settings_of_settings(tmp_path):
    """A detector's hold parts of its config."""
    pytest.importorskip('mmdet')
    from experiments.detection.trials import DetectionRun

    run = DetectionRun('cbn-growing-window-gradient', 1, 2, 0.003, 'pretrained', 4)
    found = {'box_ap': [0.5], 'diverged': None, 'seconds': 1.5, 'torch': '2.11.0'}
    write_result(tmp_path / 'there', run, found)
    path = tmp_path / 'runs.csv'
    path.write_text(to_csv([read_result(tmp_path / 'there', run)], ['box_ap']))
    restore(path, DetectionRun, tmp_path / 'here', ['box_ap'])
    assert read_result(tmp_path / 'here', run) == read_result(tmp_path / 'there', run)
