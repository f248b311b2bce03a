"""Downloading, from a server on this machine."""

from __future__ import annotations

import http.server
import os
import socket
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
import torch

pytest.importorskip('gdown')

from mmdet_cbn.checkpoints import CATALOGUE, CheckpointError
from mmdet_cbn.checkpoints.download import download_checkpoint

ROOT = Path(__file__).parents[2]
MODEL = CATALOGUE['faster-rcnn_r50_fpn_4conv1fc_cbn']


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files; ``broken`` announces more than it sends."""

    def do_GET(self) -> None:
        if self.path != '/broken':
            return super().do_GET()
        self.send_response(200)
        self.send_header('Content-Length', '100000')
        self.end_headers()
        self.wfile.write(b'PK')
        return None

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The address of a server, and the folder that it serves."""
    for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / 'served'
    folder.mkdir()
    handler = partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{running.server_port}', folder
        running.shutdown()


@pytest.fixture
def dest(tmp_path) -> Path:
    return tmp_path / 'a' / 'checkpoints'


def refuse(url: str, dest: Path, message: str) -> None:
    """A download that fails says why and how to go on, and leaves nothing."""
    with pytest.raises(CheckpointError, match=message) as caught:
        download_checkpoint(MODEL, dest, url)
    said = str(caught.value)
    assert MODEL.page in said
    assert 'try the links and issues of https://github.com/Howal/Cross-iterationBatchNorm' in said
    assert 'size and hash were not published' in said
    assert str(dest / MODEL.filename) in said
    assert not list(dest.iterdir())


def test_whole_file_arrives_under_its_name(server, dest, capfd):
    url, served = server
    torch.save({'state_dict': {'weight': torch.arange(1000.0)}}, served / MODEL.file_id)
    path = download_checkpoint(MODEL, dest, url + '/{file_id}')
    assert [file.name for file in dest.iterdir()] == [MODEL.filename]
    assert path.read_bytes() == (served / MODEL.file_id).read_bytes()
    assert '100%' in capfd.readouterr().err  # the progress bar


def test_a_link_to_nothing_is_followed(server, dest):
    url, served = server
    torch.save({'weight': torch.arange(10.0)}, served / MODEL.file_id)
    dest.mkdir(parents=True)
    (dest / MODEL.filename).symlink_to('../elsewhere/real.pth')
    path = download_checkpoint(MODEL, dest, url + '/{file_id}')
    assert path.is_symlink()
    assert list((dest.parent / 'elsewhere').iterdir()) == [dest.parent / 'elsewhere/real.pth']
    assert path.read_bytes() == (served / MODEL.file_id).read_bytes()


def test_what_is_there_is_kept(dest):
    dest.mkdir(parents=True)
    (dest / MODEL.filename).write_text('mine')
    assert download_checkpoint(MODEL, dest, 'http://127.0.0.1:1/').read_text() == 'mine'


def test_web_page(server, dest):
    url, served = server
    (served / 'page').write_text('<!DOCTYPE html><html>Quota exceeded</html>')
    refuse(f'{url}/page', dest, 'web page')


def test_cut_file(server, dest):
    url, served = server
    torch.save({'weight': torch.arange(1000.0)}, served / 'cut')
    os.truncate(served / 'cut', 2000)
    refuse(f'{url}/cut', dest, 'not a whole checkpoint')


def test_connection_breaks_off(server, dest):
    refuse(f'{server[0]}/broken', dest, 'incomplete')


def test_not_found(server, dest):
    refuse(f'{server[0]}/nothing', dest, '404')


def test_no_network(server, dest):
    with socket.socket() as unused:
        unused.bind(('127.0.0.1', 0))
        port = unused.getsockname()[1]
    refuse(f'http://127.0.0.1:{port}/', dest, 'no network connection')


def test_backbone_needs_a_browser(dest):
    with pytest.raises(CheckpointError, match=r'(?s)dropbox.*browser.*R50-wc\.pth.*pan\.baidu.*zww2'):
        download_checkpoint(CATALOGUE['R50-wc'], dest)
    assert not dest.exists()


def run(tool: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    command = [sys.executable, str(ROOT / 'tools' / tool), *arguments]
    environment = {**os.environ, 'PYTHONPATH': path}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_list(tmp_path):
    done = run('download_checkpoint.py', '--list', cwd=tmp_path)
    assert done.returncode == 0
    for model in CATALOGUE.values():
        assert model.name in done.stdout
        assert model.page in done.stdout


@pytest.mark.slow
def test_unknown_name(tmp_path):
    done = run('download_checkpoint.py', 'faster-rcnn', cwd=tmp_path)
    assert done.returncode != 0
    assert 'mask-rcnn_r50_fpn_4conv1fc_cbn' in done.stderr


@pytest.mark.slow
def test_convert_tool(tmp_path):
    """R50-wc saved by hand: the download is skipped, the conversion done; then the other tool."""
    weights = pytest.importorskip('torchvision').models.resnet50().state_dict()
    torch.save(weights, tmp_path / 'R50-wc.pth')
    done = run('download_checkpoint.py', 'R50-wc', '--dest', '.', '--convert', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    converted = torch.load(tmp_path / 'R50-wc_mmdet3.pth', weights_only=True)['state_dict']
    assert torch.equal(converted['layer4.2.conv3.weight'], weights['layer4.2.conv3.weight'])

    (tmp_path / 'page.pth').write_text('<html></html>')
    done = run('convert_checkpoint.py', 'page.pth', 'new.pth', cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith('error: page.pth is a web page')
    assert not (tmp_path / 'new.pth').exists()
