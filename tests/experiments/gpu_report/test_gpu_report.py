"""The report of a GPU, on a machine without one."""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from experiments.gpu_report import digits_column, layer_benchmark
from experiments.gpu_report.__main__ import parse_args
from experiments.gpu_report.page import to_markdown
from experiments.gpu_report.parts import MissingError, Options, Part, run_part
from experiments.gpu_report.plan import PARTS
from experiments.gpu_report.step_profile import Interval, summarize
from tests.helpers import report_parts
from tests.helpers.hidden import hiding, not_needed_by

ROOT = Path(__file__).resolve().parents[3]
QUICK = Options('cpu', quick=True)


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """Hide all but torch, numpy and pytest, and scikit-learn for the digits, from processes of the test."""
    hidden = not_needed_by('torch', 'numpy', 'pytest', 'scikit-learn')
    assert {'mmcv', 'mmdet', 'mmengine', 'hypothesis', 'matplotlib', 'tqdm', 'yaml'} <= {*hidden}
    (tmp_path / 'site').mkdir()
    (tmp_path / 'site' / 'sitecustomize.py').write_text(hiding(hidden))
    monkeypatch.setenv('PYTHONPATH', f'{tmp_path / "site"}:{ROOT}')
    monkeypatch.setenv('PYTHON', sys.executable)
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    monkeypatch.setenv('PYTEST_DISABLE_PLUGIN_AUTOLOAD', '1')  # of plugins that are hidden


@pytest.mark.slow
def test_the_command_needs_torch_numpy_and_pytest_alone(bare, tmp_path):
    """The real command, and all that it starts."""
    run = subprocess.run(
        ['bash', ROOT / 'tools/gpu_report.sh', 'out', '--device', 'cpu', '--quick', '--commit', 'of a copy'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['gpu_report.json', 'gpu_report.md']
    record = json.loads((tmp_path / 'out' / 'gpu_report.json').read_text())
    page = (tmp_path / 'out' / 'gpu_report.md').read_text()
    assert page == to_markdown(record)

    parts = {name: state['data'] for name, state in record['parts'].items()}
    assert {state['status'] for state in record['parts'].values()} == {'finished'}, record['parts']
    assert record['commit'] == 'of a copy'
    assert record['command'] == "bash tools/gpu_report.sh out --device cpu --quick --commit 'of a copy'"
    for fact in ('machine', 'commit', 'command', 'started'):
        assert record[fact] in page
    assert 'mean nothing' in page

    tests = parts['layer_tests']['tests']
    assert len(tests) == parts['layer_tests']['of'] > 50
    assert {test['message'] for test in tests.values()} == {'needs a GPU'}
    assert any('test_cuda_graph.py' in name for name in tests)

    benchmark = parts['layer_benchmark']
    assert (len(benchmark['settings']), benchmark['missing']) == (6, [])
    assert {row['setting'] for row in benchmark['rows']} == {*benchmark['settings']}
    column = benchmark['settings'].index('float32')
    (row,) = (row for row in benchmark['rows'] if (row['setting'], row['norm']) == ('float32', 'CBN'))
    (line,) = re.findall(r'^\| CBN +\|(.*\|.*)\|$', page.partition('BN, ms')[2].partition('\n\n')[0], re.M)
    assert line.split('|')[column].strip() == f'{row["train_ratio"]:.2f}'

    steps = parts['step_profile']['steps']
    assert steps['BN']['count'] < steps['BRN']['count'] < steps['CBN']['count']
    assert 0 < steps['CBN']['busy_us'] < steps['CBN']['span_us']

    digits = parts['digits_column']
    assert (digits['done'], digits['of'], digits['methods'].keys()) == (3, 3, {'bn', 'cbn', 'mabn'})
    accuracy = digits['methods']['mabn']['accuracy']['mean']
    assert re.search(rf'^\| MABN +\| {accuracy:.1f} ', page, re.MULTILINE)


@pytest.mark.slow
def test_what_does_not_finish_says_so_and_keeps_what_it_has(bare):
    def run(name):
        return run_part(Part(name, name, 0, getattr(report_parts, name)), QUICK, 10)

    with ThreadPoolExecutor() as pool:
        slow, dead, failed, missing, ended = pool.map(run, ('too_slow', 'dies', 'fails', 'misses', 'ends'))
    assert (slow['status'], slow['reason']) == ('out of time', 'stopped after 10 seconds')
    assert 10 <= slow['seconds'] < 20
    assert (slow['data'], slow['log']) == ({'done': 2}, ['at work'])
    assert (dead['status'], dead['reason'], dead['data']) == (
        'failed',
        'its process ended with -6',
        {'done': 1},
    )
    assert (failed['status'], failed['reason']) == ('failed', 'ValueError: what went wrong')
    assert failed['data'] == {'done': 1}
    assert failed['log'][-2:] == ['ValueError: what went wrong', 'and more']
    assert (missing['status'], missing['reason']) == ('could not run', 'a library is not installed')
    assert missing['data'] is None
    assert (ended['status'], ended['reason'], ended['data']) == (
        'finished',
        '1 of 2 failed',
        {'device': 'cpu'},
    )


def record(**parts):
    facts = dict.fromkeys(('machine', 'python', 'commit', 'command', 'started'), 'as it was')
    states = {part.name: {'status': 'not run'} for part in PARTS} | parts
    return {**facts, 'device': 'cuda', 'quick': False, 'parts': states}


def test_the_page_marks_what_is_not_there():
    tests = {
        'a.py::b': {'outcome': 'failed', 'message': 'def b():\nE   assert 1 == 2\nE    +1\n'},
        'a.py::c': {'outcome': 'passed'},
    }
    row = {'case': '1x1', 'norm': 'BN', 'train_ms': 2.0, 'train_ratio': 1.0, 'eval_ratio': None}
    row |= {
        'folded_ratio': None,
        'peak_ratio': None,
        'state_mb': 0.0,
        'operations': 13,
        'setting': 'float32, graph',
    }
    page = to_markdown(
        record(
            layer_tests={
                'status': 'out of time',
                'reason': 'stopped after 90 seconds',
                'seconds': 90.2,
                'data': {'command': 'pytest', 'of': 3, 'tests': tests},
                'log': ['a last line'],
            },
            step_profile={'status': 'could not run', 'reason': 'it is not there', 'seconds': 1, 'data': None},
            layer_benchmark={
                'status': 'finished',
                'reason': '1 of 4 are missing',
                'seconds': 7.0,
                'data': {
                    'settings': ['float32, graph', 'float16'],
                    'cases': ['1x1', '3x3'],
                    'rounds': 5,
                    'rows': [row],
                    'missing': [{'setting': 'float16', 'case': '1x1', 'reason': 'no memory'}],
                },
            },
        )
    )
    status = re.findall(r'^\| [^|]+ \| ([^|]+?) +\| +[-\d]+ \| +\d+ \|$', page, re.MULTILINE)
    assert status == [
        'out of time: stopped after 90 seconds',
        'could not run: it is not there',
        'finished: 1 of 4 are missing',
        'not run',
    ]
    assert '**Not finished (out of time: stopped after 90 seconds).** What it got to:' in page
    assert 'of 3 tests 1 failed, 1 passed, 1 not run.' in page
    assert '- `a.py::b`: `assert 1 == 2`' in page
    assert '```text\na last line\n```' in page
    assert '- float16; 1x1: no memory\n- float16; 3x3: not run\n' in page
    assert '- float32, graph; 3x3: not run\n' in page
    assert '- float32, graph; 1x1' not in page


def test_a_gpu_is_measured_in_every_type_and_format_eager_and_captured():
    names = list(layer_benchmark.settings('cuda'))
    types, formats = ('float32', 'bfloat16', 'float16'), ('', ', channels_last')
    eager = {dtype + form for dtype in types for form in formats}
    assert {*names} == eager | {f'{name}, graph' for name in eager}
    assert (len(names), names[0]) == (12, 'bfloat16, channels_last')


def test_it_takes_less_than_eight_minutes():
    assert sum(part.seconds for part in PARTS) <= 8 * 60 - 20  # for what it imports itself, and to stop parts


def test_gaps_are_what_no_kernel_covers():
    kernels = [Interval('b', 20, 24), Interval('a', 0, 10), Interval('a', 5, 7), Interval('b', 10, 12)]
    assert summarize(kernels) == {
        'count': 4,
        'busy_us': 16,
        'span_us': 24,
        'gaps_us': 8,
        'longest_gap_us': 8,
        'names': [['a', 2, 12], ['b', 2, 6]],
    }
    assert summarize([])['span_us'] == 0


def test_without_scikit_learn_the_digits_say_so(monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn', None)
    with pytest.raises(MissingError, match='scikit-learn is not installed'):
        digits_column.run(QUICK, lambda data: None)


def test_without_a_gpu_the_command_says_so(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['gpu_report', 'out'])
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    with pytest.raises(SystemExit):
        parse_args()
    assert '--device cuda: torch sees no GPU here' in capsys.readouterr().err
