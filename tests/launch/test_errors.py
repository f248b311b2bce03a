"""A run that cannot start says so once."""

import os

import pytest

pytest.importorskip('mmengine')

from mmdet_cbn.launch import LaunchError
from mmdet_cbn.launch.errors import leave


@pytest.mark.parametrize(
    ('environment', 'first'),
    [
        ({}, True),
        ({'LOCAL_RANK': '0'}, True),
        ({'LOCAL_RANK': '1'}, False),
        ({'SLURM_LOCALID': '3'}, False),
        ({'SLURM_LOCALID': '0', 'LOCAL_RANK': '2'}, False),  # torchrun inside of a Slurm job
    ],
)
def test_first_process_of_a_machine_speaks_first(monkeypatch, environment, first):
    """The launcher ends the others while they wait, unless they alone have something to say."""
    waited = []
    monkeypatch.setattr('time.sleep', waited.append)
    for name in ('LOCAL_RANK', 'SLURM_LOCALID'):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setitem(os.environ, name, value)
    with pytest.raises(SystemExit) as info:
        leave(LaunchError('what happened'))
    assert str(info.value.code).endswith(': what happened')
    assert waited == ([] if first else [3])
