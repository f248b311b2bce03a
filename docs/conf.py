"""The site: pages of the whole checkout, the API from its docstrings. CONTRIBUTING.md has the command."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx

from mmdet_cbn import __version__

ROOT = Path(__file__).resolve().parents[1]

project = 'mmdet-cbn'
author = copyright = 'the contributors of mmdet-cbn'
release = version = __version__
language = 'en'

extensions = [
    'myst_nb',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinx_copybutton',
]

# The source is the checkout, so that all links between its pages hold as they stand.
root_doc = 'README'
include_patterns = [
    '*.md',
    'docs/*.md',
    'docs/*.ipynb',
    'docs/api/*.md',
    'configs/README.md',
    'configs/*/README.md',
    'docker/*.md',
]
exclude_patterns = [
    '.*',
    '*.egg-info',
    'build',
    'data',
    'dist',
    'work_dirs',
    'mmdet_cbn',
    'experiments',
    'tests',
]

myst_enable_extensions = ['attrs_block']
myst_heading_anchors = 4
nb_execution_mode = 'off'  # what it printed is in the notebook; a test runs it
nb_merge_streams = True

autodoc_member_order = 'bysource'
autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented'
add_module_names = False
python_use_unqualified_type_names = True
toc_object_entries_show_parents = 'hide'
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
nitpicky = True
nitpick_ignore_regex = [('py:.*', r'(collections|mmcv|mmdet|mmengine|nn|np|numpy|pathlib|torch)\b.*')]

html_theme = 'furo'
html_title = 'mmdet-cbn'
html_static_path = ['site']
html_css_files = ['site.css']
html_copy_source = False
html_math_renderer = 'mathml'
pygments_dark_style = 'github-dark'


def complete_page(app: Sphinx, name: str, source: list[str]) -> None:
    """Give the front page its navigation, and point links to folders at the README in them."""
    if name == root_doc:
        source[0] += '\n' + (ROOT / 'docs/site/navigation.md').read_text()
    source[0] = source[0].replace(' ± ', '\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}')  # in narrow columns
    folder = (ROOT / name).parent

    def with_page(link: re.Match[str]) -> str:
        text, target = link.groups()
        if not (folder / target).is_dir():
            return link[0]
        return f'[{text}]({target}/README.md)' if (folder / target / 'README.md').is_file() else text

    if (ROOT / f'{name}.md').is_file():
        source[0] = re.sub(r'\[([^\[\]]+)\]\(([^()#:\s]+)\)', with_page, source[0])


def visit_math(translator: Any, node: nodes.math | nodes.math_block) -> None:
    """Write a formula as MathML, which browsers draw without a script from elsewhere."""
    block = isinstance(node, nodes.math_block)
    formula = latex2mathml.tex2mathml(node.astext(), as_block=block)
    translator.body.append(f'<div class="formula">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def copy_front_page(app: Sphinx, error: Exception | None) -> None:
    """Put the front page where web servers look for it."""
    if error is None and app.builder.format == 'html':
        shutil.copy(Path(app.outdir, f'{root_doc}.html'), Path(app.outdir, 'index.html'))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the above with Sphinx."""
    app.connect('source-read', complete_page)
    app.connect('build-finished', copy_front_page)
    app.add_html_math_renderer('mathml', (visit_math, None), (visit_math, None))
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
