"""Files are whole, or they are what they were before."""

import errno
import os
import socket
import stat

import pytest

from mmdet_cbn.whole_file import explain_file, whole_file


def write(path, fill):
    with whole_file(path) as partial:
        fill(partial)


def test_the_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / 'new' / 'table.md'
    with whole_file(path) as partial:
        partial.write_text('whole')
        assert not path.exists()
        assert partial.suffix == path.suffix
    assert path.read_text() == 'whole'
    assert os.listdir(path.parent) == ['table.md']


@pytest.mark.parametrize('error', [ValueError('no'), KeyboardInterrupt()])
def test_an_error_leaves_the_former_file(tmp_path, error):
    path = tmp_path / 'table.md'
    path.write_text('former')

    def fill(partial):
        partial.write_text('ha')
        raise error

    with pytest.raises(type(error)):
        write(path, fill)
    assert path.read_text() == 'former'
    assert os.listdir(tmp_path) == ['table.md']


def test_a_full_disk_is_reported_with_the_name_of_the_file(tmp_path):
    path = tmp_path / 'table.md'

    def fill(partial):
        partial.write_text('ha')
        with open('/dev/full', 'w') as full:
            full.write('x' * 10**6)

    with pytest.raises(OSError, match='No space left') as caught:
        write(path, fill)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(path)
    assert os.listdir(tmp_path) == []


def test_a_folder_in_the_way_is_named(tmp_path):
    path = tmp_path / 'table.md'
    path.mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write(path, lambda partial: partial.write_text('ha'))
    assert caught.value.filename == str(path)
    assert os.listdir(tmp_path) == ['table.md']


def test_links_are_followed(tmp_path):
    """Also to what is not there yet, and through several."""
    (tmp_path / 'there').mkdir()
    (tmp_path / 'there/table.md').write_text('former')
    (tmp_path / 'link.md').symlink_to('there/table.md')
    (tmp_path / 'second.md').symlink_to('link.md')
    (tmp_path / 'broken.md').symlink_to('new/table.md')
    for name, target in (('second.md', 'there/table.md'), ('broken.md', 'new/table.md')):
        write(tmp_path / name, lambda partial: partial.write_text('whole'))
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / target).read_text() == 'whole'
    assert os.listdir(tmp_path / 'there') == os.listdir(tmp_path / 'new') == ['table.md']


def test_a_link_to_itself(tmp_path):
    (tmp_path / 'a').symlink_to('a')
    with pytest.raises(OSError, match='symbolic links') as caught:
        write(tmp_path / 'a', lambda partial: partial.write_text('ha'))
    assert caught.value.filename == str(tmp_path / 'a')


@pytest.mark.parametrize('mode', [0o600, 0o664, 0o755, 0o400])
def test_modes_are_kept(mode, tmp_path):
    path = tmp_path / 'table.md'
    path.write_text('former')
    path.chmod(mode)
    write(path, lambda partial: partial.write_text('whole'))
    assert path.read_text() == 'whole'
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_has_the_usual_mode(tmp_path):
    (tmp_path / 'usual').touch()
    write(tmp_path / 'table.md', lambda partial: partial.write_text('whole'))
    assert (tmp_path / 'table.md').stat().st_mode == (tmp_path / 'usual').stat().st_mode


def test_a_pipe_gets_the_whole_content(tmp_path):
    path = tmp_path / 'pipe.md'
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write(path, lambda partial: partial.write_text('whole'))
    assert os.read(reader, 100) == b'whole'
    os.close(reader)
    assert path.is_fifo()
    assert os.listdir(tmp_path) == ['pipe.md']


def test_a_pipe_without_a_reader(tmp_path):
    path = tmp_path / 'pipe.md'
    os.mkfifo(path)
    with pytest.raises(OSError, match='No such device') as caught:
        write(path, lambda partial: partial.write_text('whole'))
    assert explain_file(caught.value) == (
        f'cannot write {path}: it is a pipe that nobody reads; give the name of a file'
    )
    assert path.is_fifo()


def test_a_terminal_behind_a_link(tmp_path):
    """As /dev/stdout is one. Unlike other devices, a broken program cannot replace it."""
    master, slave = os.openpty()
    path = tmp_path / 'table.md'
    path.symlink_to(os.ttyname(slave))
    write(path, lambda partial: partial.write_text('whole'))
    assert os.read(master, 100) == b'whole'
    assert path.is_symlink()
    assert stat.S_ISCHR(path.stat().st_mode)
    os.close(master)
    os.close(slave)


def test_a_socket_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind('table.md')
        with pytest.raises(OSError, match='neither a file nor a pipe'):
            write('table.md', lambda partial: partial.write_text('whole'))
    assert stat.S_ISSOCK(os.stat('table.md').st_mode)
