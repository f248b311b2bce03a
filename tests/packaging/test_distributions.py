"""Wheel and source distribution: what is in them, and that they work where they are installed."""

import os
import shutil
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from email import message_from_string
from fnmatch import fnmatch
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
EXTRAS = ('mmdet', 'experiments', 'sisters', 'tests', 'docs')


def run(*command: object, cwd: Path, **environment: str) -> str:
    """Run a command as a user would who has never seen the checkout."""
    env = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'} | environment
    result = subprocess.run(
        [*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def pip(*arguments: object, cwd: Path, python: object = sys.executable) -> None:
    run(python, '-m', 'pip', '--disable-pip-version-check', *arguments, '--no-index', cwd=cwd)


def build_wheel(source: Path, folder: Path) -> Path:
    pip('wheel', '--no-build-isolation', '--no-deps', '--wheel-dir', folder, source, cwd=source)
    (wheel,) = folder.glob('*.whl')
    return wheel


@pytest.fixture(scope='module')
def source(tmp_path_factory) -> Path:
    """A copy of the checkout, which a build would leave files in, without environments and data."""
    folder = tmp_path_factory.mktemp('source')
    ignored = (ROOT / 'docker/Dockerfile.dockerignore').read_text().split()
    for path in ROOT.iterdir():
        if any(fnmatch(path.name, pattern) for pattern in ignored):
            continue
        if path.is_dir():
            caches = shutil.ignore_patterns('__pycache__')
            shutil.copytree(path, folder / path.name, symlinks=True, ignore=caches)
        else:
            shutil.copy(path, folder)
    return folder


@pytest.fixture(scope='module')
def wheel(source: Path, tmp_path_factory) -> Path:
    return build_wheel(source, tmp_path_factory.mktemp('wheel'))


@pytest.fixture(scope='module')
def sdist(source: Path, tmp_path_factory) -> Path:
    """The source distribution, unpacked."""
    folder = tmp_path_factory.mktemp('sdist')
    build = f'from setuptools.build_meta import build_sdist; build_sdist({str(folder)!r})'
    run(sys.executable, '-c', build, cwd=source)
    (archive,) = folder.glob('*.tar.gz')
    with tarfile.open(archive) as file:
        file.extractall(folder)
    return folder / archive.name.removesuffix('.tar.gz')


def names_in(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if '.dist-info/' not in name}


def files(folder: Path, pattern: str) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.glob(pattern) if path.is_file()}


def test_wheel_holds_the_package_and_the_configs(source: Path, wheel: Path):
    configs = files(source, 'configs/**/*.py') | files(source, 'configs/*/metafile.yml')
    package = files(source, 'mmdet_cbn/**/*.py') - files(source, 'mmdet_cbn/.mim/**/*.py')
    assert len(configs) > 60
    assert 'mmdet_cbn/layers/cross_iteration.py' in package
    assert names_in(wheel) == package | {'mmdet_cbn/py.typed', 'mmdet_cbn/.mim/model-index.yml'} | {
        f'mmdet_cbn/.mim/{name}' for name in configs
    }


def test_model_index_lists_every_metafile(source: Path):
    lines = (source / 'mmdet_cbn/.mim/model-index.yml').read_text().splitlines()
    listed = {line.removeprefix('  - ') for line in lines if line.startswith('  - ')}
    assert listed == files(source, 'configs/*/metafile.yml')


def test_torch_is_the_only_requirement(wheel: Path):
    (name,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith('.dist-info/METADATA'))
    metadata = message_from_string(zipfile.ZipFile(wheel).read(name).decode())
    assert metadata['Name'] == 'mmdet-cbn'
    assert f"'{metadata['Version']}'" in (ROOT / 'mmdet_cbn/version.py').read_text()
    assert {*metadata.get_all('Provides-Extra')} == {*EXTRAS}
    required: dict[str, set[str]] = {'': set(), **{extra: set() for extra in EXTRAS}}
    for requirement in metadata.get_all('Requires-Dist'):
        text, _, marker = requirement.partition('; extra == ')
        required[marker.strip('\'"')].add(text)
    assert required.pop('') == {'torch>=2.1'}
    for extra, texts in required.items():
        lines = (ROOT / f'requirements/{extra}.txt').read_text().splitlines()
        assert texts == {line.partition('#')[0].strip() for line in lines} - {''}


def test_source_distribution_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path):
    assert (sdist / 'requirements.txt').is_file()
    assert (sdist / 'mmdet_cbn/py.typed').is_file()
    assert {f'requirements/{extra}.txt' for extra in EXTRAS} <= files(sdist, 'requirements/*.txt')
    assert (sdist / 'mmdet_cbn/.mim/configs/cbn/metafile.yml').is_file()
    assert {path.name for path in sdist.iterdir() if path.is_dir()} == {
        'mmdet_cbn',
        'mmdet_cbn.egg-info',
        'requirements',
    }
    assert names_in(build_wheel(sdist, tmp_path)) == names_in(wheel)


def with_requirements(requirement: Requirement, found: dict[Requirement, Distribution]) -> None:
    """Collect what is installed of a requirement and of those that it has in turn."""
    if requirement in found:
        return
    found[requirement] = distribution(requirement.name)
    for text in found[requirement].requires or ():
        further = Requirement(text)
        environments = [{'extra': extra} for extra in ('', *requirement.extras)]
        if further.marker is None or any(map(further.marker.evaluate, environments)):
            with_requirements(further, found)


@pytest.fixture
def torch_only(tmp_path: Path) -> Path:
    """The Python of a fresh environment that holds torch and what torch requires, by links."""
    run(sys.executable, '-m', 'venv', tmp_path / 'venv', cwd=tmp_path)
    (site_packages,) = tmp_path.glob('venv/lib/python*/site-packages')
    found: dict[Requirement, Distribution] = {}
    with_requirements(Requirement('torch'), found)
    for part in found.values():
        for name in {path.parts[0] for path in part.files} - {'..', '__pycache__'}:
            if not (site_packages / name).exists():
                (site_packages / name).symlink_to(part.locate_file(name))
    return tmp_path / 'venv/bin/python'


def test_layers_train_where_torch_alone_is_installed(wheel: Path, torch_only: Path, tmp_path: Path):
    pip('install', wheel, cwd=tmp_path, python=torch_only)  # with its requirements: torch is enough for it
    script = """
    import sys, warnings
    from importlib.util import find_spec
    import torch, torch._dynamo  # what torch itself says is none of ours
    assert not any(map(find_spec, ['mmengine', 'mmcv', 'mmdet', 'torchvision', 'sklearn']))
    warnings.simplefilter('error')

    from mmdet_cbn.layers import CrossIterationBatchNorm2d, pair_conv_norm

    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), CrossIterationBatchNorm2d(4, window_size=2))
    assert pair_conv_norm(model) == {'1': '0'}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model[0].weight.clone()
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(2, 3, 8, 8)).square().mul(torch.randn(6, 6)).sum().backward()
        optimizer.step()
    assert not torch.equal(model[0].weight, before)
    print(sys.modules['mmdet_cbn'].__file__)
    """
    printed = run(torch_only, '-c', textwrap.dedent(script), cwd=tmp_path)
    assert Path(printed.strip()).is_relative_to(tmp_path / 'venv')


@pytest.mark.parametrize('installed', ['wheel', 'checkout'])
def test_configs_elsewhere_inherit_from_those_of_the_package(
    installed: str, request: pytest.FixtureRequest, tmp_path: Path
):
    place = ROOT
    if installed == 'wheel':
        place = tmp_path / 'site'
        wheel = request.getfixturevalue('wheel')
        pip('install', '--quiet', '--no-deps', '--target', place, wheel, cwd=tmp_path)
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    (elsewhere / 'coco.py').write_text(
        "_base_ = 'mmdet_cbn::cbn/mask-rcnn_r50_fpn_4conv1fc_cbn_4xb4-1x_coco.py'\n"
        'train_dataloader = dict(batch_size=1)\n'
    )
    (elsewhere / 'shapes.py').write_text(
        "_base_ = 'mmdet_cbn::quickstart/mask-rcnn_r18_fpn_4conv1fc_cbn_shapes.py'\n"
    )
    script = """
    import io, logging
    import mmdet_cbn
    from mmengine.config import Config
    from mmengine.logging import MMLogger
    from mmengine.registry import HOOKS, PARAM_SCHEDULERS, TRANSFORMS, init_default_scope
    from torch.optim import SGD
    from mmdet_cbn.launch.model import check_model

    log = io.StringIO()
    handler = logging.StreamHandler(log)
    handler.setLevel('WARNING')
    MMLogger.get_instance('test').addHandler(handler)

    coco = Config.fromfile('coco.py')
    assert coco.model.neck.norm_cfg == dict(type='CBN', window_size=4)
    assert coco.train_dataloader.batch_size == 1
    (base,) = (line for line in coco.text.splitlines() if line.endswith('_cbn_4xb4-1x_coco.py'))

    shapes = Config.fromfile('shapes.py')
    init_default_scope('mmdet')
    model = check_model(shapes, training=True)  # builds it, as tools/train.py does, and the hook
    arguments = dict(optimizer=SGD(model.parameters()), epoch_length=9)
    for scheduler in shapes.param_scheduler:
        PARAM_SCHEDULERS.build(scheduler, default_args=arguments)
    built = [TRANSFORMS.build(transform) for transform in shapes.train_pipeline]
    built += [HOOKS.build(hook) for hook in shapes.custom_hooks]
    assert not log.getvalue(), log.getvalue()
    print(mmdet_cbn.__file__)
    print(base)
    print(type(model).__name__, *(f'{type(part).__module__}.{type(part).__name__}' for part in built))
    """
    printed = run(sys.executable, '-c', textwrap.dedent(script), cwd=elsewhere, PYTHONPATH=str(place))
    *_, package, base, parts = printed.splitlines()
    assert Path(package) == place / 'mmdet_cbn/__init__.py'
    assert base == str(place / 'mmdet_cbn/.mim/configs/cbn/mask-rcnn_r50_fpn_4conv1fc_cbn_4xb4-1x_coco.py')
    assert parts.split() == [
        'MaskRCNN',
        'mmcv.transforms.loading.LoadImageFromFile',
        'mmdet.datasets.transforms.loading.LoadAnnotations',
        'mmdet.datasets.transforms.transforms.RandomFlip',
        'mmdet.datasets.transforms.formatting.PackDetInputs',
        'mmdet_cbn.hooks.cross_iteration_hook.CrossIterationHook',
    ]
