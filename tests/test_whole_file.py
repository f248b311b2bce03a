"""Files are whole, or they are what they were before."""

import errno
import os

import pytest

from mmdet_cbn.whole_file import whole_file


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
