"""The lists of requirements against what the code imports."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
# Two distributions offer each of these, so no list may choose one.
CHOSEN_BY_THE_USER = {'mmengine', 'mmcv', 'mmdet', 'mmpretrain', 'mmseg', 'cv2'}
OURS = {'mmdet_cbn', 'experiments'}


def imported_distributions(*folders: str) -> set[str]:
    """Return the distributions, not those of the user's choice, that the code of folders imports anywhere."""
    modules = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules.add(node.module.partition('.')[0])
    modules -= {*sys.stdlib_module_names} | CHOSEN_BY_THE_USER | OURS
    return {packages_distributions()[module][0].lower() for module in modules}


def listed(name: str) -> set[str]:
    lines = (ROOT / name).read_text().splitlines()
    return {re.match(r'[\w-]+', line).group().lower() for line in lines if line and not line.startswith('#')}


def test_package_imports_torch_and_the_extra_for_mmdetection():
    assert listed('requirements.txt') == {'torch'}
    assert imported_distributions('mmdet_cbn') == {'torch'} | listed('requirements/mmdet.txt')


def test_experiments_and_tools_import_what_their_extra_adds():
    """And no more than that: what the package itself needs stands in its own lists."""
    both = listed('requirements.txt') | listed('requirements/mmdet.txt')
    tests = {'pytest'}  # which the report of a GPU starts
    found = imported_distributions('experiments', 'tools') - both
    assert found == listed('requirements/experiments.txt') | tests


def test_sister_libraries_are_pinned_on_both_lines():
    """And stay out of what the package needs."""
    names = {'onedl-mmpretrain', 'onedl-mmsegmentation'}
    assert listed('requirements/sisters.txt') == names
    assert names < listed('requirements/default.txt')
    assert {name.removeprefix('onedl-') for name in names} < listed('requirements/classic.txt')
    assert not names & (listed('requirements.txt') | listed('requirements/mmdet.txt'))


def read_requirements(name: str) -> dict[str, Requirement]:
    lines = (line.partition('#')[0].strip() for line in (ROOT / name).read_text().splitlines())
    return {found.name: found for found in map(Requirement, filter(None, lines))}


LINES = {name: read_requirements(f'requirements/{name}.txt') for name in ('default', 'classic')}
RANGES = {
    requirement.name: requirement
    for name in ('requirements.txt', 'requirements/mmdet.txt', 'requirements/experiments.txt')
    for requirement in read_requirements(name).values()
}


@pytest.mark.parametrize('line', LINES)
def test_both_lines_lie_in_the_ranges(line: str):
    pins = {name: str(found.specifier).removeprefix('==') for name, found in LINES[line].items()}
    assert {'torch', 'torchvision', 'numpy'} <= pins.keys() & RANGES.keys()
    for name in pins.keys() & RANGES.keys():
        assert RANGES[name].specifier.contains(pins[name]), (name, pins[name])


def test_lower_bounds_are_what_the_classic_line_proves():
    bounds = {name: found.specifier for name, found in RANGES.items() if found.specifier}
    assert {'torch', 'torchvision', 'numpy'} <= bounds.keys()
    for name, bound in bounds.items():
        release = '.'.join(str(LINES['classic'][name].specifier).removeprefix('==').split('.')[:2])
        assert str(bound) == f'>={release}'


def test_workflow_runs_what_ci_runs_on_a_python_of_both_lines():
    workflow = (ROOT / '.github/workflows/ci.yml').read_text()
    assert '- run: bash .ci/run\n' in workflow
    assert set(re.findall(r"python-version: '(.*)'", workflow)) == {'3.11'}
    assert "' 3.10 3.11 '" in (ROOT / 'tools/setup_env.sh').read_text()
