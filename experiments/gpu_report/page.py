"""The record of all parts as a page in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..benchmarks.norms import REFERENCE
from ..benchmarks.tables import to_markdown as benchmark_tables
from ..common.seeds import Cell, format_cell
from ..common.tables import markdown_table
from .plan import PARTS

Data = Mapping[str, Any]
QUICK = (
    '> **Quick: this page shows the form of a report. Its sizes are tiny, and its times and accuracies mean '
    'nothing.**'
)


def to_markdown(record: Data) -> str:
    """Write the page of a record, finished or not."""
    facts = [[name, str(record[name])] for name in ('machine', 'python', 'commit', 'command', 'started')]
    overview = [['part', 'status', 'seconds', 'of at most']]
    for part in PARTS:
        state = record['parts'][part.name]
        seconds = '-' if 'seconds' not in state else f'{state["seconds"]:.0f}'
        overview.append([part.title, standing(state), seconds, str(part.seconds)])
    blocks = ['# GPU report' if record['device'] == 'cuda' else '# GPU report, run on a CPU']
    blocks += [QUICK] if record['quick'] else []
    blocks += [markdown_table([['', ''], *facts]), markdown_table(overview, numbers=(2, 3))]
    for part in PARTS:
        state = record['parts'][part.name]
        blocks.append(f'## {part.title}')
        if state['status'] != 'finished':
            kept = ' What it got to:' if state.get('data') else ''
            blocks.append(f'**Not finished ({standing(state)}).**{kept}')
        if state.get('data'):
            blocks += WRITERS[part.name](state['data'])
        if state.get('log'):
            blocks.append('\n'.join(('```text', *state['log'], '```')))
    return '\n\n'.join(blocks) + '\n'


def standing(state: Data) -> str:
    """Say how far a part came, and what hindered it."""
    return f'{state["status"]}: {state["reason"]}' if state.get('reason') else state['status']


def _layer_tests(data: Data) -> list[str]:
    tests = data['tests']
    counts = Counter(test['outcome'] for test in tests.values())
    counts['not run'] = data['of'] - len(tests)
    said = ', '.join(f'{number} {outcome}' for outcome, number in counts.items() if number) or 'none'
    blocks = [f'`{data["command"]}`: of {data["of"]} tests {said}.']
    reasons = Counter(test['message'] for test in tests.values() if test['outcome'] == 'skipped')
    if reasons:
        blocks.append('Skipped: ' + ', '.join(f'{reason} ({n})' for reason, n in reasons.items()) + '.')
    failed = {name: test['message'] for name, test in tests.items() if test['outcome'] == 'failed'}
    lines = [f'- `{name}`: `{_first_error(message)}`' for name, message in failed.items()]
    return [*blocks, '\n'.join(lines)] if lines else blocks


def _first_error(message: str) -> str:
    errors = [line.removeprefix('E ').strip() for line in message.splitlines() if line.startswith('E ')]
    return errors[0] if errors else 'no message'


def _step_profile(data: Data) -> list[str]:
    heading = ['norm', 'kernels', 'launches', 'waits']
    heading += [f'{time}, us' for time in ('span', 'busy', 'between', 'longest gap')]
    rows = [
        [
            name,
            str(step['count']),
            *(str(step.get(key, '-')) for key in ('launches', 'waits')),
            *(f'{step[key]:.0f}' for key in ('span_us', 'busy_us', 'gaps_us', 'longest_gap_us')),
        ]
        for name, step in data['steps'].items()
    ]
    what = f'{data["case"]}, {data["dtype"].removeprefix("torch.")}'
    blocks = [
        f'One step of convolution + norm + ReLU with SGD, {what}. On a CPU the operators of torch, '
        'views and allocations included, stand for the kernels.',
        markdown_table([heading, *rows], numbers=range(1, len(heading))),
    ]
    if data['missing']:
        blocks.append('\n'.join(f'- {name}: {reason}' for name, reason in data['missing'].items()))
    if 'CBN' in data['steps']:
        names = [[_short(name), str(n), f'{us:.1f}'] for name, n, us in data['steps']['CBN']['names']]
        blocks += [
            'The longest of CBN, eager:',
            markdown_table([['name', 'count', 'us'], *names], numbers=(1, 2)),
        ]
    return blocks


def _short(name: str) -> str:
    return name if len(name) <= 80 else f'{name[:77]}...'


def _layer_benchmark(data: Data) -> list[str]:
    at = {(row['setting'], row['case'], row['norm']): row for row in data['rows']}
    norms = list(dict.fromkeys(row['norm'] for row in data['rows']))
    blocks = [
        f'A training step (forward, backward, SGD update), medians of {data["rounds"]} interleaved rounds. '
        'float32 convolutions as PyTorch runs them by default, with TF32 where the GPU has it; half types '
        'under autocast.'
    ]
    for case in data['cases']:
        columns = [setting for setting in data['settings'] if (setting, case, REFERENCE) in at]
        if not columns:
            continue
        reference = [f'{at[setting, case, REFERENCE]["train_ms"]:.3f}' for setting in columns]
        ratios = [
            [norm, *(f'{at[setting, case, norm]["train_ratio"]:.2f}' for setting in columns)]
            for norm in norms
        ]
        rows = [[f'{case}, beside {REFERENCE}', *columns], [f'{REFERENCE}, ms', *reference], *ratios]
        blocks.append(markdown_table(rows, numbers=range(1, len(rows[0]))))
    if data['rows']:
        first = data['rows'][0]['setting']
        blocks.append(f'All that was measured in {first}; the JSON file has it for the others:')
        blocks.append(benchmark_tables([row for row in data['rows'] if row['setting'] == first]))
    tried = {(row['setting'], row['case']) for row in data['rows']}
    missing = {(item['setting'], item['case']): item['reason'] for item in data['missing']}
    places = [(setting, case) for setting in data['settings'] for case in data['cases']]
    left = [
        f'- {"; ".join(place)}: {missing.get(place, "not run")}' for place in places if place not in tried
    ]
    return [*blocks, '\n'.join(left)] if left else blocks


def _digits_column(data: Data) -> list[str]:
    rows = [
        [
            method['label'],
            format_cell(Cell(**method['accuracy']), 1),
            format_cell(Cell(**method['training_loss']), 2),
            f'{method["accuracy"]["seeds"]} of {data["seeds"]}',
            f'{method["seconds"]:.0f}',
        ]
        for method in data['methods'].values()
    ]
    heading = ['method', 'accuracy, %', 'training loss, nats', 'seeds', 'seconds, all seeds']
    return [
        f'{data["done"]} of {data["of"]} trials, {data["images"]} samples an epoch.',
        *([markdown_table([heading, *rows])] if rows else []),
    ]


WRITERS = {
    'layer_tests': _layer_tests,
    'step_profile': _step_profile,
    'layer_benchmark': _layer_benchmark,
    'digits_column': _digits_column,
}
