"""What may be imported where: the layers need torch alone, and the rest says what it lacks."""

import ast
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.hidden import hiding, not_needed_by

PACKAGE = Path(__file__).parents[1] / 'mmdet_cbn'
OPENMMLAB = ('mmengine', 'mmcv', 'mmdet')
OURS = ('mmdet_cbn.', 'experiments.')


def python(script: str, hidden: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    script = hiding(hidden) + textwrap.dedent(script)
    run = subprocess.run(
        [sys.executable, '-c', script], cwd=PACKAGE.parent, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    return run


@pytest.mark.parametrize('hidden', [('mmcv',), ('mmdet',), ('mmcv', 'mmdet'), ('mmengine',)], ids=','.join)
def test_import_says_what_is_missing_and_how_to_install_it(hidden):
    run = python('import mmdet_cbn; print(mmdet_cbn.__version__, mmdet_cbn.__all__)', hidden)
    assert f'UserWarning: {", ".join(hidden)} not found' in run.stderr
    assert 'bash tools/setup_env.sh' in run.stderr
    assert 'requirements/default.txt' in run.stderr
    assert "['__version__']" in run.stdout


IMPORT = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    import mmdet_cbn
"""


def test_import_is_silent_for_users_of_plain_pytorch():
    run = python(IMPORT + 'print([str(w.message) for w in caught], mmdet_cbn.__all__)', hidden=OPENMMLAB)
    assert run.stdout.strip() == "[] ['__version__']"
    assert run.stderr == ''


OUR_WARNINGS = (
    "[str(w.message) for w in caught if 'mmdet_cbn' in w.filename or 'not found' in str(w.message)]"
)


def test_import_is_silent_where_nothing_is_missing():
    pytest.importorskip('mmdet')
    names = 'mmdet_cbn.CrossIterationHook.__name__, mmdet_cbn.PairedConvModule.__name__'
    script = IMPORT + f'print({OUR_WARNINGS})\nprint({names})'
    *_, warnings, names = python(script).stdout.splitlines()
    assert warnings == '[]'
    assert names == 'CrossIterationHook PairedConvModule'


def test_layers_train_with_torch_alone():
    script = """
    import importlib, pkgutil
    import torch._dynamo  # which torch imports itself as soon as an optimizer steps
    before = {name.partition('.')[0] for name in sys.modules}
    import mmdet_cbn.layers, mmdet_cbn.ops
    for package in (mmdet_cbn.layers, mmdet_cbn.ops):
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):
            importlib.import_module(module.name)
    from mmdet_cbn.layers import CenteredConv2d, CrossIterationBatchNorm2d, pair_conv_norm
    model = torch.nn.Sequential(CenteredConv2d(3, 4, 3), CrossIterationBatchNorm2d(4, window_size=2))
    pair_conv_norm(model)
    for _ in range(3):
        model(torch.randn(2, 3, 8, 8)).sum().backward()
    assert model[1].window.fill == 1
    after = {name.partition('.')[0] for name in sys.modules} - before
    print(sorted(after - set(sys.stdlib_module_names)))
    """
    assert python(script, hidden=OPENMMLAB).stdout.splitlines()[-1] == "['mmdet_cbn']"


def test_the_gpu_report_imports_torch_and_numpy_alone():
    """Up to the digits, for which it asks first; pytest comes when the tests begin."""
    script = 'import experiments.gpu_report.__main__ as report; print([part.name for part in report.PARTS])'
    names = python(script, not_needed_by('torch', 'numpy')).stdout
    assert names.strip() == "['layer_tests', 'step_profile', 'layer_benchmark', 'digits_column']"


def imports(path: Path) -> Iterator[str]:
    """Yield what a file imports, also inside functions, by absolute names."""
    parents = path.relative_to(PACKAGE.parent).with_suffix('').parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = '.'.join(parents[: len(parents) - node.level]) + '.' if node.level else ''
            base += node.module or ''
            yield from (f'{base}.{alias.name}'.replace('..', '.') for alias in node.names)


def imported_roots(folder: str) -> set[str]:
    names = {name for path in (PACKAGE / folder).resolve().rglob('*.py') for name in imports(path)}
    ours = {'.'.join(name.split('.')[:2]) for name in names if name.startswith(OURS)}
    others = {name.partition('.')[0] for name in names if not name.startswith(OURS)}
    return ours | (others - set(sys.stdlib_module_names))


@pytest.mark.parametrize(
    ('folder', 'allowed'),
    [
        ('ops', {'torch', 'mmdet_cbn.ops'}),
        ('layers', {'torch', 'mmdet_cbn.ops', 'mmdet_cbn.layers'}),
        (
            'hooks',
            {
                'torch',
                'mmengine',
                'mmdet_cbn.analysis',
                'mmdet_cbn.checkpoints',
                'mmdet_cbn.layers',
                'mmdet_cbn.hooks',
            },
        ),
        (
            'analysis',
            {
                'matplotlib',
                'numpy',
                'torch',
                'mmdet_cbn.analysis',
                'mmdet_cbn.layers',
                'mmdet_cbn.ops',
                'mmdet_cbn.whole_file',
            },
        ),
        (
            '../experiments/common',
            {
                'experiments.common',
                'matplotlib',
                'torch',
                'scipy',
                'mmdet_cbn.layers',
                'mmdet_cbn.whole_file',
            },
        ),
        (
            '../experiments/digits',
            {
                'experiments.common',
                'experiments.digits',
                'torch',
                'tqdm',
                'numpy',
                'sklearn',
                'mmdet_cbn.layers',
                'mmdet_cbn.whole_file',
            },
        ),
        (
            '../experiments/detection',
            {
                'experiments.common',
                'experiments.detection',
                'experiments.reports',
                'torch',
                'tqdm',
                'numpy',
                'mmcv',
                'mmengine',
                'mmdet_cbn.data',
                'mmdet_cbn.launch',
                'mmdet_cbn.layers',
                'mmdet_cbn.whole_file',
            },
        ),
    ],
)
def test_dependencies_point_one_way(folder, allowed):
    assert imported_roots(folder) <= allowed


def test_what_is_installed_knows_nothing_of_what_is_not():
    names = {name.partition('.')[0] for path in PACKAGE.rglob('*.py') for name in imports(path)}
    assert names.isdisjoint({'experiments', 'tests', 'tools'})


def test_only_two_modules_import_mmcv():
    importing = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob('*.py')
        if any(name.partition('.')[0] == 'mmcv' for name in imports(path))
    }
    assert importing == {'paired_conv_module.py', 'registration.py'}
