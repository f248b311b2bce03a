"""Reading files that are no checkpoints, and writing whole files only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from mmdet_cbn.checkpoints.files import CheckpointError, read_checkpoint, write_checkpoint


@pytest.fixture(params=[True, False], ids=['zip', 'pytorch-1.0'])
def checkpoint(request, tmp_path) -> Path:
    """A sound checkpoint in the new and in the old serialization."""
    path = tmp_path / 'checkpoint.pth'
    tensors = {'weight': torch.arange(5000.0)}
    torch.save({'state_dict': tensors}, path, _use_new_zipfile_serialization=request.param)
    return path


def refuse(path: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)


def test_sound(checkpoint):
    assert torch.equal(read_checkpoint(checkpoint)['state_dict']['weight'], torch.arange(5000.0))


@pytest.mark.parametrize('length', [1, 30, 200, 10_000])
def test_cut_short(checkpoint, length):
    checkpoint.write_bytes(checkpoint.read_bytes()[:length])
    refuse(checkpoint, 'not a whole checkpoint')


def test_damaged(checkpoint):
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(os.urandom(300) + content[300:])
    refuse(checkpoint, 'not a whole checkpoint')


def test_web_page(tmp_path):
    path = tmp_path / 'page.pth'
    path.write_text('\n<!DOCTYPE html><html><title>Quota exceeded</title></html>')
    refuse(path, 'web page')


def test_empty_and_missing(tmp_path):
    refuse(tmp_path / 'missing.pth', 'no such file')
    (tmp_path / 'empty.pth').touch()
    refuse(tmp_path / 'empty.pth', 'empty')


def test_not_a_dictionary(tmp_path):
    torch.save(torch.zeros(3), tmp_path / 'tensor.pth')
    refuse(tmp_path / 'tensor.pth', 'a checkpoint is a dictionary')


class Payload:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path('executed'),)


@pytest.mark.parametrize('as_zip', [True, False])
def test_nothing_is_executed(as_zip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({'meta': Payload()}, 'evil.pth', _use_new_zipfile_serialization=as_zip)
    refuse(Path('evil.pth'), r'pathlib\.Path is in it, .* would execute code')
    assert not Path('executed').exists()


def test_write_makes_folders_and_replaces(tmp_path):
    for value in (1, 2):
        write_checkpoint({'value': value}, tmp_path / 'new' / 'checkpoint.pth')
    assert read_checkpoint(tmp_path / 'new' / 'checkpoint.pth') == {'value': 2}


def test_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / 'checkpoint.pth'
    write_checkpoint({'value': 1}, path)
    with pytest.raises((AttributeError, TypeError), match='pickle'):
        write_checkpoint({'value': (i for i in range(3))}, path)
    assert [file.name for file in tmp_path.iterdir()] == ['checkpoint.pth']
    assert read_checkpoint(path) == {'value': 1}
