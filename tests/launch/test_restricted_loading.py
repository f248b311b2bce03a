"""MMEngine loads no code from a checkpoint, wherever it gets it from."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

pytest.importorskip('mmengine')

import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModule
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mmdet_cbn.checkpoints import CheckpointError, UnsupportedValueError
from mmdet_cbn.launch.checkpoints import check_checkpoints
from mmdet_cbn.launch.restricted_loading import restrict_loading
from tests.helpers.payload import EXECUTED, save_payload


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setattr(CheckpointLoader, 'load_checkpoint', CheckpointLoader.load_checkpoint)
    restrict_loading()
    return tmp_path


@pytest.fixture
def address(folder):
    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(('127.0.0.1', 0), partial(Silent, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}/some.pth'
        server.shutdown()


class Part(BaseModule):
    def __init__(self, checkpoint):
        super().__init__(init_cfg={'type': 'Pretrained', 'checkpoint': checkpoint})
        self.conv = nn.Conv2d(1, 1, 1)


WAYS = {
    'loader': lambda path: CheckpointLoader.load_checkpoint(path, map_location='cpu'),
    'load_from': lambda path: load_checkpoint(nn.Linear(1, 1), path, map_location='cpu'),
    'init_cfg': lambda path: Part(path).init_weights(),
    'prefix': lambda path: BaseModule(
        init_cfg={'type': 'Pretrained', 'checkpoint': path, 'prefix': 'conv'}
    ).init_weights(),
}


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('far', [False, True], ids=['file', 'address'])
def test_code_is_not_executed(way, far, folder, address):
    load = torch.load
    save_payload(folder, state_dict={'conv.weight': torch.zeros(1, 1, 1, 1)})
    with pytest.raises(UnsupportedValueError, match=r'some\.pth: it holds pathlib\.Path'):
        WAYS[way](address if far else 'some.pth')
    assert not EXECUTED.exists()
    assert torch.load is load


@pytest.mark.parametrize('trusted', [False, True])
def test_a_dead_address_is_named(trusted, folder, address):
    restrict_loading(trusted)
    dead = address.replace('some', 'no')
    with pytest.raises(
        CheckpointError, match=f'cannot load {dead} .*404.*; check the address and the network'
    ):
        CheckpointLoader.load_checkpoint(dead)


@pytest.mark.parametrize('far', [False, True], ids=['file', 'address'])
def test_what_mmengine_saves_is_loaded(far, folder, address):
    saved = Part('').state_dict()
    torch.save({'state_dict': saved, 'message_hub': {'loss': HistoryBuffer([1.0], [1])}}, 'some.pth')
    part = Part(address if far else 'some.pth')
    part.init_weights()
    assert torch.equal(part.conv.weight, saved['conv.weight'])


def test_who_trusts_a_checkpoint_takes_the_risk(folder):
    model = nn.Linear(1, 1)
    save_payload(folder, state_dict=model.state_dict())
    check_checkpoints(Config({'load_from': 'some.pth'}), model, training=False, trusted=True)
    assert EXECUTED.exists()
    EXECUTED.unlink()
    restrict_loading(trusted=True)
    load_checkpoint(model, 'some.pth', map_location='cpu')
    assert EXECUTED.exists()
