"""What tools/setup_env.sh refuses, and that it refuses before it makes or downloads anything.

The machine is faked through PATH: a folder with links to the few programs that the script needs, and
small scripts in the place of those that the test is about.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ['bash', 'dirname', 'basename', 'grep', 'cut', 'sha256sum', 'cat', 'awk', 'nproc', 'rm']


@pytest.fixture
def checkout(tmp_path):
    """A checkout without environments, as far as the set-up reads it."""
    root = tmp_path / 'checkout'
    for name in ('tools', 'requirements', 'mmdet_cbn'):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('requirements.txt', 'pyproject.toml', 'setup.py'):
        shutil.copy(ROOT / name, root)
    return root


@pytest.fixture
def machine(tmp_path):
    """A folder of programs: a Python 3.11 with venv, a compiler that works, 100 GB free."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    for name in PROGRAMS:
        (folder / name).symlink_to(shutil.which(name))
    header = tmp_path / 'include/Python.h'
    header.parent.mkdir()
    header.touch()
    install_python(folder, 'python3.11', '3.11', include=header.parent)
    program(folder, 'c++', 'cat >/dev/null')
    disk(folder, gigabytes=100)
    return folder


def program(folder, name, body):
    path = folder / name
    path.unlink(missing_ok=True)
    path.write_text(f'#!{folder}/bash\n{body}\n')
    path.chmod(0o755)


def install_python(folder, name, version, venv=True, include='/nowhere'):
    """A Python that answers the script's questions, and would leave a trace if it made anything."""
    program(
        folder,
        name,
        f"""case $2 in
        *version_info*cp*|*cp%d*) echo cp{version.replace('.', '')} ;;
        *version_info*) echo {version} ;;
        *sysconfig*) echo {include} ;;
        *ensurepip*) {'true' if venv else 'false'} ;;
        *) echo "BUILDS $*"; exit 3 ;;
        esac""",
    )


def disk(folder, gigabytes):
    blocks = gigabytes * 1024**2
    program(folder, 'df', f'echo Filesystem; echo "/dev/disk 1 1 {blocks} 1% /"')


def set_up(checkout, machine, **environment):
    env = {'PATH': str(machine), 'HOME': str(machine), 'TMPDIR': str(machine), **environment}
    return subprocess.run(
        ['bash', 'tools/setup_env.sh'], cwd=checkout, env=env, capture_output=True, text=True, timeout=60
    )


def refuses(result, *words):
    """One line of the script's own, nothing made."""
    assert result.returncode == 1
    assert result.stdout == ''
    (line,) = result.stderr.splitlines()
    assert line.startswith('setup_env.sh: ')
    for word in words:
        assert word in line


def test_machine_that_has_everything_is_accepted(checkout, machine):
    result = set_up(checkout, machine)
    assert f'BUILDS -m venv --clear {checkout}/.venv' in result.stdout


@pytest.mark.parametrize('version', ['3.9', '3.13'])
def test_python_out_of_range(checkout, machine, version):
    (machine / 'python3.11').unlink()
    install_python(machine, 'python3', version)
    refuses(set_up(checkout, machine), f'python3 is {version}', '3.10, 3.11, 3.12')


def test_no_python_at_all(checkout, machine):
    (machine / 'python3.11').unlink()
    refuses(set_up(checkout, machine), 'python3.12', 'PYTHON')


def test_python_variable_is_the_only_candidate(checkout, machine):
    install_python(machine, 'mypython', '3.8')
    refuses(set_up(checkout, machine, PYTHON='mypython'), 'mypython is 3.8')


def test_classic_line_does_not_take_312(checkout, machine):
    (machine / 'python3.11').unlink()
    install_python(machine, 'python3', '3.12')
    result = set_up(checkout, machine, MMDET_CBN_STACK='classic')
    refuses(result, 'classic', 'python3 is 3.12')


def test_python_without_venv_is_passed_over(checkout, machine):
    install_python(machine, 'python3.12', '3.12', venv=False, include='/nowhere')
    assert 'BUILDS' in set_up(checkout, machine).stdout
    (machine / 'python3.11').unlink()
    refuses(set_up(checkout, machine), 'python3.12 has no venv module', 'python3.12-venv')


@pytest.mark.parametrize('body', [None, 'exit 1'])
def test_no_compiler(checkout, machine, body):
    (machine / 'c++').unlink()
    if body:
        program(machine, 'c++', body)
    refuses(set_up(checkout, machine), 'c++', 'mmcv', 'CXX')


def test_no_headers_of_python(checkout, machine):
    install_python(machine, 'python3.11', '3.11', include='/nowhere')
    refuses(set_up(checkout, machine), '/nowhere/Python.h', 'python3-dev')


def test_gpu_without_nvcc(checkout, machine):
    program(machine, 'nvidia-smi', 'echo "GPU 0: something"')
    nowhere = {'CUDA_HOME': '/nowhere'}
    refuses(set_up(checkout, machine, **nowhere), 'nvcc', 'CUDA_VISIBLE_DEVICES=-1')
    assert 'BUILDS' in set_up(checkout, machine, CUDA_VISIBLE_DEVICES='-1', **nowhere).stdout


@pytest.mark.parametrize(('tag', 'enough'), [('cp311', True), ('cp310', False)])
def test_wheel_of_mmcv_replaces_the_compiler(checkout, machine, tmp_path, tag, enough):
    (machine / 'c++').unlink()
    (tmp_path / f'onedl_mmcv-2.3.6-{tag}-{tag}-linux_x86_64.whl').touch()
    result = set_up(checkout, machine, PIP_FIND_LINKS=f'/elsewhere {tmp_path}')
    assert ('BUILDS' in result.stdout) == enough


def test_too_little_disk(checkout, machine):
    disk(machine, gigabytes=11)
    refuses(set_up(checkout, machine), '11 GB', '12 GB', 'TMPDIR')


def test_unknown_line(checkout, machine):
    refuses(set_up(checkout, machine, MMDET_CBN_STACK='modern'), 'MMDET_CBN_STACK=modern', 'classic')


def test_complete_environment_is_left_alone(checkout, machine):
    """The stamp counts as long as what it was made from is unchanged."""
    venv = checkout / '.venv'
    (venv / 'bin').mkdir(parents=True)
    (venv / 'bin/python').symlink_to(machine / 'python3.11')
    read = 'cat requirements/default.txt requirements.txt requirements/{mmdet,experiments,tests,docs}.txt'
    read += ' pyproject.toml setup.py tools/setup_env.sh'
    stamp = subprocess.run(
        ['bash', '-c', f'(pwd && {read}) | sha256sum'], cwd=checkout, capture_output=True, text=True
    ).stdout
    (venv / 'mmdet-cbn.stamp').write_text(stamp)
    result = set_up(checkout, machine)
    assert (result.returncode, result.stdout, result.stderr) == (0, '', '')

    with (checkout / 'requirements/tests.txt').open('a') as file:
        file.write('another\n')
    assert 'BUILDS' in set_up(checkout, machine).stdout


@pytest.mark.parametrize('name', ['default', 'classic'])
def test_one_pin_for_each_package_of_a_line(name):
    """The script takes single lines out of the file."""
    lines = (ROOT / f'requirements/{name}.txt').read_text().splitlines()
    pins = [line.split('#')[0].strip() for line in lines if not line.startswith('#')]
    assert all('==' in pin for pin in pins)
    for package in ('torch', 'mmengine', 'mmcv', 'setuptools'):
        assert len([pin for pin in pins if pin.partition('==')[0] in (package, f'onedl-{package}')]) == 1


def test_setup_reads_version_and_requirements(tmp_path):
    """Without importing the package: torch is out of reach here."""
    (tmp_path / 'torch.py').write_text('raise ImportError("setup.py imports torch")')
    env = {**os.environ, 'PYTHONPATH': str(tmp_path)}
    command = [sys.executable, 'setup.py', '--quiet', '--name', '--version']
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    name, version = result.stdout.split()[-2:]
    assert name == 'mmdet-cbn'
    assert f"'{version}'" in (ROOT / 'mmdet_cbn/version.py').read_text()
