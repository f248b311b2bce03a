"""The lists of models and the tables of the READMEs: complete, and with the numbers that were published."""

from pathlib import Path

import pytest
from mmengine.fileio import load

from mmdet_cbn.checkpoints import CATALOGUE
from tests.configs.expected import ROWS, Row
from tests.configs.published import COLUMNS, PAPERS, find, in_the_paper, in_the_repository

ROOT = Path(__file__).parents[2]
FOLDERS = ('baselines', 'cbn', 'mabn')
FIGURE_3B = 'CBN paper, Figure 3(b)'
IN_FIGURES = {  # rows that stand in no table
    'baselines/faster-rcnn_r50_fpn_4conv1fc_syncbn_4xb2-1x_coco': FIGURE_3B,
    'baselines/faster-rcnn_r50_fpn_4conv1fc_syncbn_4xb8-1x_coco': FIGURE_3B,
    'cbn/faster-rcnn_r50_fpn_4conv1fc_naive-cbn_4xb4-1x_coco': FIGURE_3B,
}
SOURCES = {
    'epochs': ('https://arxiv.org/abs/2002.05712', 'https://github.com/Howal/Cross-iterationBatchNorm'),
    'iterations': ('https://arxiv.org/abs/2001.06838', 'https://github.com/megvii-model/MABN'),
}
NORMS = {'cbn': 'CBN', 'gn': 'GN', 'syncbn': 'SyncBN'}  # in the names of released models


@pytest.mark.parametrize('folder', FOLDERS)
def test_metafile_lists_the_configs(folder: str):
    metafile = load(ROOT / 'configs' / folder / 'metafile.yml')
    models = metafile['Models']
    assert sorted(f'{folder}/{model["Name"]}' for model in models) == sorted(
        name for name in ROWS if name.startswith(f'{folder}/')
    )
    collections = {collection['Name']: collection for collection in metafile['Collections']}
    for collection in collections.values():
        assert (ROOT / collection['README']).is_file()
    for model in models:
        assert model['In Collection'] in collections
        assert (ROOT / model['Config']).is_file()
        assert Path(model['Config']).stem == model['Name']
        recipe = ROWS[f'{folder}/{model["Name"]}'].recipe
        assert model['Metadata'][recipe.unit.capitalize()] == recipe.length
        assert model['Metadata']['Training Resources'] == f'{recipe.gpus}x GPUs'


@pytest.mark.parametrize('folder', FOLDERS)
def test_metafile_has_the_published_numbers(folder: str):
    for model in load(ROOT / 'configs' / folder / 'metafile.yml')['Models']:
        name = f'{folder}/{model["Name"]}'
        row = ROWS[name]
        table, paper = in_the_paper(row)
        repository = in_the_repository(row)
        sources = SOURCES[row.recipe.unit]
        expected = {}
        if paper:
            expected['Paper Results'] = {'Row': table, 'Source': sources[0], 'Metrics': paper}
        elif name in IN_FIGURES:
            expected['Paper Results'] = {'Row': IN_FIGURES[name]}
        if repository:
            expected['Repository Results'] = {'Source': sources[1], 'Metrics': repository}
        found = {key: value for key, value in model['Metadata'].items() if key.endswith('Results')}
        assert found == expected, name


def test_every_line_of_the_coco_tables_has_a_config():
    """So that no row of the papers is left out; Table 5 repeats some of Table 4's."""
    shown = [in_the_paper(row) for row in ROWS.values()]
    shown += [('', in_the_repository(row)) for row in ROWS.values()]
    shown = [list(metrics.values()) for _, metrics in shown]
    tables = {
        'cbn': ('table_4', 'table_5_faster_rcnn', 'table_5_mask_rcnn'),
        'cbn_repository': ('main_results',),
        'mabn': ('table_3', 'table_5', 'table_6', 'table_7'),
        'mabn_repository': ('coco',),
    }
    for paper, names in tables.items():
        for line in (line for name in names for line in PAPERS[paper][name]):
            assert [line[column] for column in COLUMNS if column in line] in shown, line


def test_tables_of_both_papers_are_those_of_the_sources():
    """The last line of each table, as printed: none was cut off or shifted."""
    assert find('cbn', 'table_4', backbone='CBN', box_head='CBN')['box AP L'] == 48.2
    r101 = find('cbn', 'table_5_mask_rcnn', backbone='R101+FPN', norm='CBN')
    assert list(r101.values()) == [40.1, 60.5, 44.1, 35.8, 57.3, 38.5]
    assert find('mabn', 'table_7', norm='MABN')['box AP75'] == 31.14
    top1 = [line['bs_1'] for line in PAPERS['cbn']['table_3']]
    assert top1 == [None, 68.9, None, 69.3]


def read_tables(folder: str) -> dict[str, list[dict[str, str]]]:
    """Return the lines of each config in a README's tables, cells by their columns.

    Repeated names of columns belong to the kind of AP that was named last: ``mask AP75``.
    """
    sizes = {'AP': 'AP', 'AP50': 'AP50', 'AP75': 'AP75', 'S': 'AP S', 'M': 'AP M', 'L': 'AP L'}
    found, columns = {}, []
    for line in (ROOT / 'configs' / folder / 'README.md').read_text().splitlines():
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        if not line.startswith('|'):
            columns = []
        elif 'AP50' in cells:
            kind = 'box'
            for cell in cells:
                kind = {'box AP': 'box', 'mask AP': 'mask'}.get(cell, kind)
                columns.append(f'{kind} {sizes[cell]}' if cell in sizes else cell)
        elif columns and set(cells[0]) != {'-'}:
            row = dict(zip(columns, cells, strict=True))
            if '](' in row['config']:  # else a further line of the same config
                lines = found.setdefault(row['config'].split('](')[1].removesuffix('.py)'), [])
            lines.append(row)
    return found


def numbers(line: dict[str, str]) -> dict[str, float]:
    return {name: float(line[name]) for name in COLUMNS.values() if line.get(name, '-') not in ('', '-')}


@pytest.mark.parametrize('folder', FOLDERS)
def test_readme_shows_the_published_numbers(folder: str):
    tables = read_tables(folder)
    rows = {name.split('/')[1]: row for name, row in ROWS.items() if name.startswith(f'{folder}/')}
    assert set(tables) == set(rows)
    for name, row in rows.items():
        table, paper = in_the_paper(row)
        expected = {'paper': paper, 'repository': in_the_repository(row)}
        expected = {source: metrics for source, metrics in expected.items() if metrics} or {'-': {}}
        lines = tables[name]
        assert {line['numbers of']: numbers(line) for line in lines} == expected, name
        label = table or IN_FIGURES.get(f'{folder}/{name}', '-')
        assert lines[0]['row'] == label.split(', ')[-1]
        check_decimals(row, lines)
        for column in lines[0]:
            if column.startswith('ours'):
                assert lines[0][column] == '-' or float(lines[0][column]) > 0


def check_decimals(row: Row, lines: list[dict[str, str]]) -> None:
    """As many as printed: one in the CBN paper, two in MABN's."""
    decimals = 2 if row.recipe.unit == 'iterations' else 1
    for line in lines:
        for name in numbers(line):
            assert len(line[name].split('.')[1]) == decimals


def test_released_models():
    models = {model['Name']: model for model in load(ROOT / 'configs/released/metafile.yml')['Models']}
    tables = read_tables('released')
    detectors = [model for model in CATALOGUE.values() if model.config]
    assert set(models) == set(tables) == {Path(model.config).stem for model in detectors}
    for released in detectors:
        name = Path(released.config).stem
        method = {'faster': 'Faster R-CNN', 'mask': 'Mask R-CNN'}[name.split('-')[0]]
        norm = NORMS.get(released.name.split('_')[-1], '-')
        metrics = find('cbn_repository', 'main_results', method=method, norm=norm)
        assert len(metrics) == (6 if method == 'Mask R-CNN' else 3)
        source = SOURCES['epochs'][1]
        assert models[name]['Metadata']['Repository Results'] == {'Source': source, 'Metrics': metrics}
        assert 'Paper Results' not in models[name]['Metadata']
        assert models[name]['Weights'] == released.page
        (line,) = tables[name]
        assert numbers(line) == metrics
        assert (line['model'], line['norm']) == (method, norm.replace('-', 'none'))
        assert (released.box_ap, released.mask_ap) == (metrics['box AP'], metrics.get('mask AP'))
