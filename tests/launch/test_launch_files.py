"""Files of a run are written whole or not at all."""

import os

import pytest

pytest.importorskip('mmengine')

from mmengine.fileio import LocalBackend, get_file_backend, register_backend

from mmdet_cbn.launch.files import WholeFileBackend, write_whole_files


@pytest.fixture
def backend():
    write_whole_files()
    yield get_file_backend('epoch_1.pth')
    register_backend('local', LocalBackend, force=True, prefixes='')


def test_files_arrive_under_their_names(backend, tmp_path):
    assert isinstance(backend, WholeFileBackend)
    path = tmp_path / 'new' / 'epoch_1.pth'
    for content in (b'one', b'another'):
        backend.put(content, str(path))
    backend.put_text('h\u00e9', path.with_name('log'))
    assert path.read_bytes() == b'another'
    assert sorted(file.name for file in path.parent.iterdir()) == ['epoch_1.pth', 'log']
    assert backend.get_text(path.with_name('log')) == 'h\u00e9'


def test_failed_write_names_the_file_and_leaves_what_was_there(backend, tmp_path, monkeypatch):
    path = tmp_path / 'epoch_1.pth'
    path.write_bytes(b'the last one')

    def no_room(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'replace', no_room)
    monkeypatch.setattr('pathlib.Path.replace', no_room)
    with pytest.raises(OSError, match=rf'No space left on device: .{path}'):
        backend.put(b'more', path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b'the last one']
