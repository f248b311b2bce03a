"""Results on disk."""

import dataclasses

import pytest

from experiments.common.results import StudyError, read_result, result_file, write_result
from experiments.digits import trials
from experiments.digits.trials import Trial

TRIAL = Trial('cbn', batch_size=2, seed=1, images=60, window_size=8, burn_in=3)


def result():
    return {'settings': TRIAL.settings, 'accuracy': [0.1, 0.2], 'diverged': None}


def test_what_was_written_is_read(tmp_path):
    folder = tmp_path / 'new' / 'trials'
    assert read_result(folder, TRIAL) is None
    write_result(folder, TRIAL, result())
    assert read_result(folder, TRIAL) == result()
    (path,) = folder.iterdir()
    assert path.name == 'cbn_batch2_k8_burn-in3_images60_rate0.003_test_seed1.json'


def test_each_setting_has_a_file_of_its_own(tmp_path):
    changes = (
        {'batch_size': 3},
        {'seed': 2},
        {'images': 61},
        {'window_size': 7},
        {'burn_in': 2},
        {'workers': 2},
        {'rate': 0.001},
        {'split': 'validation'},
    )
    others = [dataclasses.replace(TRIAL, **change) for change in changes]
    others.append(dataclasses.replace(TRIAL, method='naive-cbn'))
    assert len({result_file(tmp_path, trial) for trial in (TRIAL, *others)}) == 10


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match='JSON'):
        write_result(tmp_path, TRIAL, result() | {'accuracy': [float('nan')]})
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_put_in_place_leaves_nothing(tmp_path):
    result_file(tmp_path, TRIAL).mkdir()
    with pytest.raises(OSError, match='directory'):
        write_result(tmp_path, TRIAL, result())
    assert list(tmp_path.iterdir()) == [result_file(tmp_path, TRIAL)]


def test_other_hyper_parameters_are_refused(tmp_path, monkeypatch):
    write_result(tmp_path, TRIAL, result())
    monkeypatch.setattr(trials, 'WEIGHT_DECAY', 0.5)
    with pytest.raises(StudyError, match=r'seed1\.json was run with other settings than weight_decay 0\.5'):
        read_result(tmp_path, TRIAL)


@pytest.mark.parametrize('text', ['', '{"settings": {', '[]', '{}', '{"settings": 3}'])
def test_a_damaged_file_is_named(tmp_path, text):
    result_file(tmp_path, TRIAL).write_text(text)
    with pytest.raises(StudyError, match=r'seed1\.json does not hold a result .*delete it'):
        read_result(tmp_path, TRIAL)
