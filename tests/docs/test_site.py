"""The site builds without a warning and without the network, and its references lead somewhere."""

import os
import re
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

pytest.importorskip('mmdet')

ROOT = Path(__file__).parents[2]
# All connections would go through a port that nobody listens to.
NO_NETWORK = {
    name: 'http://127.0.0.1:9' for name in ('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY')
}


class Page(HTMLParser):
    """What a page links to, loads, and can be linked at."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {given['id']} if given.get('id') else set()
        if tag == 'a' and given.get('href'):
            self.links.append(given['href'])
        elif tag in ('img', 'script') and given.get('src'):
            self.loads.append(given['src'])
        elif tag == 'link' and given.get('rel') in ('stylesheet', 'icon'):
            self.loads.append(given['href'])


@pytest.fixture(scope='module')
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('site')
    command = [sys.executable, '-m', 'sphinx', '-W', '--keep-going', '-q', '-c', 'docs', '.', str(out)]
    environment = {**os.environ, **NO_NETWORK}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stderr
    return out


@pytest.fixture(scope='module')
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob('*.html')}


@pytest.mark.slow
def test_links_and_pictures_are_there(site: Path, pages: dict[Path, Page]):
    broken = []
    for path, page in pages.items():
        for link in [*page.links, *page.loads]:
            if re.match(r'\w+:', link):
                continue
            place, _, anchor = link.partition('#')
            target = (path.parent / unquote(place.partition('?')[0])).resolve() if place else path
            known = target not in pages or not anchor or unquote(anchor) in pages[target].anchors
            if not target.exists() or not known:
                broken.append((path.relative_to(site).as_posix(), link))
    assert len(pages) > 30
    assert not broken


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, Page]):
    assert not [load for page in pages.values() for load in page.loads if re.match(r'(\w+:)?//', load)]


@pytest.mark.slow
def test_every_page_is_reached_from_the_front_page(site: Path, pages: dict[Path, Page]):
    front = pages[site / 'index.html']
    reached = {(site / link.partition('#')[0]).resolve() for link in front.links}
    for folder in ('docs', 'docs/api', 'configs'):
        for source in (ROOT / folder).glob('*.md'):
            assert site / source.relative_to(ROOT).with_suffix('.html') in reached, source
    assert '<math' in (site / 'docs/api/layers.html').read_text()


@pytest.mark.slow
def test_public_names_are_in_the_reference(site: Path):
    from mmdet_cbn import layers, ops

    inventory = zlib.decompress((site / 'objects.inv').read_bytes().split(b'\n', 4)[4]).decode()
    names = {line.split()[0] for line in inventory.splitlines()}
    public = {f'{module.__name__}.{name}' for module in (layers, ops) for name in module.__all__}
    assert public - names == set()


def test_gallery_shows_every_picture():
    shown = re.findall(r'\]\(images/(.*?)\)', (ROOT / 'docs/gallery.md').read_text())
    assert sorted(shown) == sorted(path.name for path in (ROOT / 'docs/images').iterdir())
