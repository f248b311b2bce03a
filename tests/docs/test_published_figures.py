"""What the pages quote of the papers beside our own measurements, against configs/papers.yml."""

from pathlib import Path

import pytest
from mmengine.fileio import load

ROOT = Path(__file__).parents[2]
PAPERS = load(ROOT / 'configs/papers.yml')


def read_table(page: str, column: str) -> list[dict[str, str]]:
    """Return the lines of the one table of a page that has this column; of repeated columns the last."""
    header, found = None, []
    for line in (ROOT / 'docs' / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        if not line.startswith('|'):
            header = None
        elif column in cells:
            header = cells
        elif header and set(cells[0]) != {'-'}:
            found.append(dict(zip(header, cells, strict=True)))
    assert found
    return found


def test_gradient_ratios():
    models = {'ResNet-50': 'ResNet', 'VGG-16': 'VGG-16', 'Inception v3': 'Inception-V3'}
    figures = {line['model']: (line['mu'], line['nu']) for line in PAPERS['cbn']['gradient_ratios']}
    quoted = {
        models[line['model']]: (float(line['mu, paper']), float(line['nu, paper']))
        for line in read_table('gradient_ratios.md', 'mu, paper')
        if line['mu, paper']
    }
    assert quoted == figures


COSTS = {
    'memory, GB': 'memory_gb',
    'FLOPs, M': 'flops_m',
    'training, iterations/s': 'train_iter_per_s',
    'inference, iterations/s': 'inference_iter_per_s',
}


def test_costs():
    lines = {line['']: line for line in read_table('benchmark.md', 'FLOPs, M')}
    papers = {'CBN paper': PAPERS['cbn']['table_6'], 'MABN paper': PAPERS['mabn']['table_9']}
    assert len(lines) == sum(map(len, papers.values()))
    for paper, table in papers.items():
        bn = table[0]
        assert bn['norm'] == 'BN'
        for figures in table:
            line = lines[f'{paper}: {figures["norm"]}']
            assert {column: float(line[column]) for column in COSTS} == {
                column: figures[key] for column, key in COSTS.items()
            }
            for column, ratio in (
                ('memory beside BN', figures['memory_gb'] / bn['memory_gb']),
                ('FLOPs beside BN', figures['flops_m'] / bn['flops_m']),
                ('time of a step beside BN', bn['train_iter_per_s'] / figures['train_iter_per_s']),
            ):
                assert float(line[column]) == pytest.approx(ratio, abs=0.005), (line[''], column)


def test_speed_in_the_table_of_the_detector():
    lines = read_table('benchmark.md', 'step, ms')
    quoted = {line['norm']: line['paper'] for line in lines}
    for norm, table in (('CBN', PAPERS['cbn']['table_6']), ('MABN', PAPERS['mabn']['table_9'])):
        speed = {line['norm']: line['train_iter_per_s'] for line in table}
        assert float(quoted[norm]) == pytest.approx(speed['BN'] / speed[norm], abs=0.005)
