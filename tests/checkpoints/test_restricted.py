"""What MMEngine saves is read on every version of torch, and nothing is executed."""

from __future__ import annotations

import os
import pickle
from collections import Counter
from io import BytesIO
from pathlib import Path

import pytest

pytest.importorskip('mmengine')

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from mmdet_cbn.checkpoints import restricted
from mmdet_cbn.checkpoints.restricted import RefusedGlobalError, load_restricted
from tests.helpers.payload import EXECUTED, Payload

LOADERS = [load_restricted, restricted.load_by_name]
FORMATS = {'zip': True, 'pytorch-1.0': False}


@pytest.fixture(params=FORMATS)
def save(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def save(content: object) -> Path:
        torch.save(content, 'some.pth', _use_new_zipfile_serialization=FORMATS[request.param])
        return Path('some.pth')

    return save


class Called:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


class Stated:
    """An instance of an admitted class, of whose attributes the file sets some."""

    def __init__(self, kind, state):
        self.reduced = kind, (), state

    def __reduce__(self):
        return self.reduced


ATTACKS = {
    'method': Payload(),
    'command': Called(os.system, f'touch {EXECUTED}'),
    'eval': Called(eval, f'open({str(EXECUTED)!r}, "w")'),
    'pickle-within': Called(pickle.loads, pickle.dumps(Payload())),
    'checkpoint-within': Called(torch.storage._load_from_bytes, b'...'),
    'attribute-of-anything': Called(getattr, HistoryBuffer, '__init__'),
    'module': torch.nn.Linear(1, 1),
    'array-of-objects': np.array([Payload()], dtype=object),
    'inside-a-history': Stated(HistoryBuffer, {'statistics_methods': {'mean': Payload()}}),
}


@pytest.mark.parametrize('load', LOADERS, ids=lambda load: load.__name__)
@pytest.mark.parametrize('attack', ATTACKS)
def test_nothing_is_executed(attack, load, save):
    path = save({'state_dict': {'weight': torch.zeros(2)}, 'meta': ATTACKS[attack]})
    with pytest.raises((RefusedGlobalError, pickle.UnpicklingError)):
        load(path)
    assert not EXECUTED.exists()


def test_the_refused_name_is_told(save):
    with pytest.raises(RefusedGlobalError) as info:
        load_restricted(save({'meta': Called(os.system, 'true')}))
    assert info.value.found == f'{os.system.__module__}.system'


@pytest.mark.parametrize('load', LOADERS, ids=lambda load: load.__name__)
@pytest.mark.parametrize('as_file', [False, True])
def test_what_mmengine_saves(load, as_file, save):
    history = HistoryBuffer([0.5, 1.5], [1, 1])
    saved = {
        'message_hub': {
            'loss': history,
            'empty': HistoryBuffer(),
            'lr': np.float64(0.1),
            'on': np.bool_(True),
        },
        'param_schedulers': [{'milestones': Counter({8: 1, 11: 1})}],
        'meta': {'classes': ('a', 'b'), 'bytes': b'\x00\xff', 'name': np.str_('c'), 'array': np.arange(3.0)},
        'optimizer': {'state': {0: {'momentum': torch.ones(2, dtype=torch.bfloat16)}}, 'dtype': torch.bool},
        'state_dict': {'weight': torch.nn.Parameter(torch.arange(4.0))},
    }
    path = save(saved)
    loaded = load(BytesIO(path.read_bytes()) if as_file else path)
    found = loaded['message_hub']['loss']
    assert type(found) is HistoryBuffer
    assert (found.mean(), found.min(), found.statistics('max'), found.current()) == (1.0, 0.5, 1.5, 1.5)
    assert len(loaded['message_hub']['empty'].data[0]) == 0
    assert loaded['message_hub']['lr'] == 0.1
    assert loaded['param_schedulers'] == saved['param_schedulers']
    np.testing.assert_array_equal(loaded['meta'].pop('array'), saved['meta'].pop('array'))
    assert loaded['meta'] == saved['meta']
    assert torch.equal(loaded['state_dict']['weight'], saved['state_dict']['weight'])
    assert torch.equal(loaded['optimizer']['state'][0]['momentum'], torch.ones(2, dtype=torch.bfloat16))


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('protocol', [3, 4, 5])
@pytest.mark.parametrize('new_format', FORMATS.values(), ids=FORMATS)
def test_newer_protocols(protocol, new_format, tmp_path):
    """``torch.save`` writes protocol 2 unless it is told otherwise, and torch's unpickler reads no more."""
    path, options = tmp_path / 'some.pth', {'_use_new_zipfile_serialization': new_format}
    saved = {'state_dict': {'weight': torch.arange(4.0)}, 'loss': HistoryBuffer([0.5], [1])}
    torch.save(saved, path, pickle_protocol=protocol, **options)
    for file in (path, BytesIO(path.read_bytes())):
        loaded = load_restricted(file)
        assert torch.equal(loaded['state_dict']['weight'], torch.arange(4.0))
        assert loaded['loss'].mean() == 0.5
    torch.save({**saved, 'meta': Payload()}, path, pickle_protocol=protocol, **options)
    with pytest.raises(RefusedGlobalError, match='pathlib'):
        load_restricted(path)
    assert not EXECUTED.exists()


@pytest.mark.parametrize('load', LOADERS, ids=lambda load: load.__name__)
def test_programs_of_torchscript_are_refused(load, tmp_path):
    torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1, 1)).save(tmp_path / 'some.pth')
    with pytest.raises(RuntimeError, match='TorchScript'):
        load(tmp_path / 'some.pth')
