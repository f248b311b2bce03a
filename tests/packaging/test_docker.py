"""The image's recipe, as far as it can be tested without Docker."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / 'docker'


@pytest.fixture(scope='module')
def instructions():
    """Pairs such as ('COPY', 'setup.py ./'), lines joined and comments left out."""
    text = re.sub(r'^\s*#.*\n', '', (DOCKER / 'Dockerfile').read_text(), flags=re.MULTILINE)
    lines = re.sub(r'\\\n\s*', '', text).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line]


def test_cuda_is_that_of_the_pinned_torch(instructions):
    """The compiler of another major release is refused by torch."""
    pin = re.search(r'^torch==(\S+)', (ROOT / 'requirements/default.txt').read_text(), re.MULTILINE).group(1)
    version, _, _ = torch.__version__.partition('+')
    if version != pin or torch.version.cuda is None:
        pytest.skip(f'torch {torch.__version__} is not the pinned one of PyPI')
    name, image = instructions[0]
    assert name == 'FROM'
    assert re.fullmatch(rf'nvidia/cuda:{re.escape(torch.version.cuda)}\.\d+-devel-ubuntu24\.04', image)


def test_versions_are_those_of_the_requirements(instructions):
    for name, text in instructions:
        assert '==' not in text
        assert not re.search(r'\bpip3? |\bconda\b', text), name


def copied(root, target, sources, destination):
    folder = target / destination
    for source in sources:
        path = root / source
        assert path.exists(), f'COPY {source}: it is not there'
        if path.is_dir():
            shutil.copytree(path, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns('__pycache__'))
        else:
            assert destination.endswith('/')
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder)


@pytest.fixture(scope='module')
def image(instructions, tmp_path_factory):
    """What lies in the image when it runs the set-up, and that instruction."""
    folder = tmp_path_factory.mktemp('image')
    for name, text in instructions:
        if name == 'COPY':
            *sources, destination = text.split()
            copied(ROOT, folder, sources, destination)
        if name == 'RUN' and 'setup_env.sh' in text:
            return folder, text
    raise AssertionError('no RUN of tools/setup_env.sh')


@pytest.mark.slow
def test_set_up_finds_what_it_reads(image):
    """It gets as far as looking for Python; the package is installed and imported after that."""
    folder, _ = image
    environment = {'PATH': '/usr/bin:/bin', 'PYTHON': '/nowhere/python'}
    result = subprocess.run(
        ['bash', 'tools/setup_env.sh'], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert 'setup_env.sh: the default line needs Python' in result.stderr
    assert result.stderr.count('\n') == 1
    script = (folder / 'tools/setup_env.sh').read_text()
    for path in re.findall(r'(?:requirements|tools)[\w/.]*\.(?:txt|sh)|pyproject\.toml|setup\.py', script):
        assert (folder / path).exists(), path
    for command in (['setup.py', '--version'], ['-c', 'import mmdet_cbn; print(mmdet_cbn.__file__)']):
        result = subprocess.run(
            [sys.executable, '-W', 'ignore', *command], cwd=folder, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(str(folder))


def test_operators_are_compiled_for_cuda(instructions, image):
    """Without a GPU mmcv takes FORCE_CUDA as its only sign, and the architectures from the variable."""
    _, command = image
    words = shlex.split(command)
    assert 'FORCE_CUDA=1' in words[: words.index('tools/setup_env.sh')]
    names = [name for name, _ in instructions]
    (architectures,) = [text for name, text in instructions if name == 'ARG']
    assert names.index('ARG') < [text for _, text in instructions].index(command)
    name, _, default = architectures.partition('=')
    assert name == 'TORCH_CUDA_ARCH_LIST'
    assert re.fullmatch(r'"\d+\.\d( \d+\.\d)*\+PTX"', default)


def test_all_else_is_copied_but_environments_and_data(instructions):
    assert ('COPY', '. .') in instructions
    ignored = (DOCKER / 'Dockerfile.dockerignore').read_text().split()
    assert {'.git', '.venv*', 'data', 'work_dirs'} <= set(ignored)
    needed = ['mmdet_cbn', 'configs', 'tools', 'tests', 'requirements', 'requirements.txt', 'pyproject.toml']
    needed += ['setup.py']
    assert not {*needed} & {*ignored}


def test_readme_names_what_there_is(instructions):
    text = (DOCKER / 'README.md').read_text()
    paths = re.findall(r'\b(?:configs|tools|docker|requirements)/[\w/.-]+\w', text)
    assert len(paths) > 5
    for path in paths:
        assert (ROOT / path).exists(), path
    (variables,) = [value for name, value in instructions if name == 'ENV']
    root = re.search(r'COCO_ROOT=(\S+)', variables).group(1)
    (home,) = [value for name, value in instructions if name == 'WORKDIR']
    assert f'--volume "$COCO":{root}:ro' in text
    assert f':{home}/work_dirs' in text
    assert f'PATH={home}/.venv/bin:$PATH' in variables
    for option in ('--gpus all', '--ipc=host', '--shm-size'):
        assert option in text
