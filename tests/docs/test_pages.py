"""The pages of the documentation: their links, the files that they name, the length of the README."""

import re
from pathlib import Path
from typing import Any

import pytest
from mmengine.fileio import load

from mmdet_cbn import __version__

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ('*.md', 'docs/*.md', 'configs/README.md', 'configs/*/README.md', 'docker/*.md')
    for path in ROOT.glob(pattern)
)


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r'^ *```.*?^ *```$', '', page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of the headings of a page."""
    headings = re.findall(r'^#+ (.*)$', prose(page), flags=re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.strip().lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('name', PAGES)
def test_links_point_to_what_exists(name: str):
    page = ROOT / name
    broken = []
    for link in re.findall(r'\]\(([^)\s]+)\)', prose(page)):
        if re.match(r'\w+:', link):  # https:, mailto:
            continue
        path, _, anchor = link.partition('#')
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize('name', [name for name in PAGES if name != 'CHANGELOG.md'])  # which names what went
def test_files_in_commands_exist(name: str):
    text = (ROOT / name).read_text()
    paths = set(re.findall(r'(?<![\w./-])(?:tools|configs|requirements)/[\w./-]+\.(?:py|sh|txt|yml)\b', text))
    modules = set(re.findall(r'python -m ((?:mmdet_cbn|experiments)[\w.]*)', text))
    paths |= {module.replace('.', '/') for module in modules}
    missing = {path for path in paths if not (ROOT / path).exists() and not (ROOT / f'{path}.py').exists()}
    assert not missing


def test_readme_is_short():
    assert len((ROOT / 'README.md').read_text().splitlines()) <= 130


def test_plain_pytorch_example_of_the_readme_runs():
    (example,) = re.findall(
        r'^```python\n(import torch\n.*?)^```$', (ROOT / 'README.md').read_text(), re.M | re.S
    )
    names: dict[str, Any] = {}
    exec(example, names)
    assert names['model'][0].weight.grad.any()
    assert "pair_conv_norm(model)  # {'1': '0'}" in example
    assert names['pair_conv_norm'](names['model']) == {'1': '0'}


def test_changelog_and_citation_name_the_version():
    changelog = (ROOT / 'CHANGELOG.md').read_text()
    assert re.findall(r'^## \[(.*)\]', changelog, re.M)[:2] == ['Unreleased', __version__]
    released = re.search(rf'^## \[{re.escape(__version__)}\] - (.*)$', changelog, re.M).group(1)
    citation = load(ROOT / 'CITATION.cff', file_format='yaml')
    assert (citation['version'], citation['date-released']) == (__version__, released)
    assert [paper['year'] for paper in citation['references']] == [2021, 2020]
