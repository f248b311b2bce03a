"""Every command tells what it is for, with an example that can be typed."""

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('mmdet')

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path.name for path in (ROOT / 'tools').glob('*.sh') if path.name != 'common.sh')
PROGRAMS = sorted(f'tools/{path.name}' for path in (ROOT / 'tools').glob('*.py'))
MODULES = sorted(
    '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__main__')
    for folder in ('experiments', 'mmdet_cbn')
    for path in (ROOT / folder).rglob('*.py')
    if "if __name__ == '__main__'" in path.read_text()
)


def help_of(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a program of Python in this process, which has imported torch already."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, 'path', [*sys.path])  # tools add the checkout to it
    monkeypatch.setattr(sys, 'argv', [command, '--help'])
    run = runpy.run_path if command in PROGRAMS else runpy.run_module
    with pytest.raises(SystemExit) as stop:
        run(command, run_name='__main__')
    assert not stop.value.code
    return capsys.readouterr().out


def check_example(text: str, command: str) -> None:
    """Find the command of the example, with files that exist and with options that the help explains."""
    explanation, _, example = text.partition('\nexample:\n')
    lines = [line.strip() for line in example.splitlines() if line.startswith('  ')]
    variables = dict(re.fullmatch(r'(CONFIG)=(\S+)', line).groups() for line in lines[:-1])
    assert all((ROOT / path).is_file() for path in variables.values())
    words = shlex.split(lines[-1])
    assert command in words
    options = [word for word in words[words.index(command) :] if word.startswith('--')]
    # A script hands options on to the program that its usage names.
    handed_on = 'ARGUMENTS OF' in explanation
    assert handed_on or all(re.search(rf'{option}\b', explanation) for option in options)


def test_all_commands_are_found():
    assert {'dist_train.sh', 'quickstart.sh', 'setup_env.sh'} <= {*SCRIPTS}
    assert {'tools/train.py', 'tools/benchmark.py'} <= {*PROGRAMS}
    assert {'experiments.digits', 'experiments.fraction_error', 'mmdet_cbn.data.shapes'} <= {*MODULES}


@pytest.mark.slow
@pytest.mark.parametrize('program', PROGRAMS)
def test_program(program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    text = help_of(program, monkeypatch, capsys)
    if program == 'tools/benchmark.py':  # whose options are those of its commands
        text = text.replace('\nexample:', '--rounds --json --plot\nexample:')
    check_example(text, program)


@pytest.mark.slow
@pytest.mark.parametrize('module', MODULES)
def test_module(module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    text = help_of(module, monkeypatch, capsys)
    check_example(text, 'tools/gpu_report.sh' if module == 'experiments.gpu_report' else module)


@pytest.mark.parametrize('script', SCRIPTS)
def test_script(script: str, tmp_path: Path):
    command = ['bash', str(ROOT / 'tools' / script), '--help']
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, '')
    check_example(result.stdout, f'tools/{script}')
    assert not [*tmp_path.iterdir()]
