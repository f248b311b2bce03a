"""The lists of models and the tables of the READMEs: complete, and saying the same."""

from pathlib import Path

import pytest
from mmengine.fileio import load

from tests.configs.expected import ROWS

ROOT = Path(__file__).parents[2]
FOLDERS = ('baselines', 'cbn', 'mabn')
METRICS = [f'{kind} AP{size}' for kind in ('box', 'mask') for size in ('', '50', '75', ' S', ' M', ' L')]
SHOWN = {'box': ['box AP', 'box AP50', 'box AP75'], 'mask': ['mask AP', 'mask AP50', 'mask AP75']}


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
        row = ROWS[f'{folder}/{model["Name"]}']
        assert model['Metadata']['Epochs'] == row.recipe.epochs
        assert model['Metadata']['Training Resources'] == f'{row.recipe.gpus}x GPUs'
        paper = model['Metadata'].get('Paper Results', {'Row': ''})
        metrics = paper.get('Metrics', {})
        assert set(metrics) <= set(METRICS[: 12 if 'mask' in row.norms else 6])
        assert all(0 < value < 100 for value in metrics.values())
        assert ('Source' in paper) == bool(metrics)


@pytest.mark.parametrize('folder', FOLDERS)
def test_readme_shows_the_numbers_of_the_metafile(folder: str):
    lines = (ROOT / 'configs' / folder / 'README.md').read_text().splitlines()
    for model in load(ROOT / 'configs' / folder / 'metafile.yml')['Models']:
        (line,) = [line for line in lines if line.startswith('|') and f']({model["Name"]}.py)' in line]
        _, row, _, _, *cells = (cell.strip() for cell in line.strip('|').split('|'))
        paper = model['Metadata'].get('Paper Results', {'Row': '-'})
        assert paper['Row'].endswith(row)
        has_masks = 'mask' in ROWS[f'{folder}/{model["Name"]}'].norms
        for kind in ('box', 'mask') if has_masks else ('box',):
            *shown, ours = cells[:4]
            del cells[:4]
            numbers = [None if cell == '-' else float(cell) for cell in shown]
            assert numbers == [paper.get('Metrics', {}).get(name) for name in SHOWN[kind]]
            assert ours == '-' or float(ours) > 0
        assert not cells
