"""The table of attacks on the commands: wrong configs, data, checkpoints, command lines and machines.

A case says what is wrong, how the command is called and what it must answer: one message, a non-zero exit,
nothing half-written. What looks wrong and is not stands in test_passes.py. To see what is covered:
pytest --collect-only -q tests/bad_input
"""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.forked import ROOT, Result, run
from tests.helpers.wrong_input import Case

TINY = ROOT / 'tests/helpers/tiny_mask_rcnn.py'


@pytest.fixture(scope='session')
def template(tmp_path_factory) -> Path:
    """A folder with a data set, and a config in which MMDetection's are included: those take time to find."""
    pytest.importorskip('mmdet')
    from mmengine.config import Config

    from mmdet_cbn.data.shapes import generate

    folder = tmp_path_factory.mktemp('template') / 'here'
    generate(folder / 'shapes', train=4, val=2, size=64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('SHAPES', 'shapes')
        Config.fromfile(TINY).dump(folder / 'whole.py')
    return folder


@pytest.fixture
def check(template, tmp_path) -> Callable[[str, Case], None]:
    """Run a program on what is wrong in a case, and look at its message and at what it leaves behind."""

    def check(program: str, case: Case) -> None:
        folder = tmp_path / 'here'
        shutil.copytree(template, folder)
        (folder / 'config.py').write_text(f"_base_ = './whole.py'\n{case.config}")
        if case.spoil:
            case.spoil(folder)
        before = contents(folder)
        result = run(program, case.arguments, folder, case.environment, case.prepare)
        check_message(program, case, result)
        after = contents(folder)
        if case.runs:
            assert not [name for name in after if name.endswith('.pth') or Path(name).name.startswith('.')]
            before, after = (
                {name: content for name, content in all_.items() if not name.startswith('work_dirs')}
                for all_ in (before, after)
            )
        assert after == before

    return check


def check_message(program: str, case: Case, result: Result) -> None:
    """One message, of our programs or of argparse, after nothing but the log of a run."""
    if case.passes:
        assert result.status == 0, result.stderr
        assert 'Traceback' not in result.stdout + result.stderr, result.stderr
        for word in case.words:
            assert word in result.stdout + result.stderr, (
                f'{word!r} is not in: {result.stdout}{result.stderr}'
            )
        return
    assert result.status == (2 if 'usage:' in result.stderr else 1), result.stderr
    assert 'Traceback' not in result.stdout + result.stderr, result.stderr
    start = Path(program).name if program.endswith('.py') else f'python -m {program}'
    text = '\n' + result.stderr
    message = text[max(text.rfind(f'\n{start}: '), text.rfind('\nerror: ')) :]
    assert message, 'no message'
    assert len(message.strip().splitlines()) <= 6, message
    assert len(message) < 800, message
    for word in case.words:
        assert word in message, f'{word!r} is not in: {message}'


def contents(folder: Path) -> dict[str, str]:
    """What lies in a folder: names, and the contents of files."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ''
        for path in folder.rglob('*')
        if '__pycache__' not in path.parts
    }
