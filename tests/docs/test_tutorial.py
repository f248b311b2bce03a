"""The tutorial runs, and its page holds what it printed and drew."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from mmdet_cbn.layers import CenteredConv2d, CrossIterationBatchNorm2d, MovingAverageBatchNorm2d

TUTORIAL = Path(__file__).parents[2] / 'docs/tutorial.ipynb'


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells for output in cell.get('outputs', ())]


def kinds(notebook: nbformat.NotebookNode) -> set[str]:
    return {kind for output in outputs(notebook) for kind in output.get('data', {})}


def table(notebook: nbformat.NotebookNode) -> dict[str, tuple[float, float]]:
    """Read loss and accuracy of each method in what the last cell of code prints."""
    (text,) = [o.text for o in outputs(notebook) if o.get('name') == 'stdout' and 'accuracy' in o.text]
    rows = (line.rsplit(maxsplit=2) for line in text.splitlines()[1:])
    return {name: (float(loss), float(share.rstrip('%'))) for name, loss, share in rows}


def test_outputs_are_committed():
    notebook = nbformat.read(TUTORIAL, as_version=4)
    nbformat.validate(notebook)
    assert 'image/png' in kinds(notebook)
    assert len(table(notebook)) == 4
    assert not [output for output in outputs(notebook) if output.output_type == 'error']


@pytest.mark.slow
def test_tutorial_runs(monkeypatch: pytest.MonkeyPatch):
    """Nothing is asked of the results but that all four networks learn something."""
    notebook = nbformat.read(TUTORIAL, as_version=4)
    sources = ''.join(cell.source for cell in notebook.cells if cell.cell_type == 'code')
    for layer in (CenteredConv2d, CrossIterationBatchNorm2d, MovingAverageBatchNorm2d):
        assert layer.__name__ in sources
    before = table(notebook)
    for cell in notebook.cells:
        if cell.cell_type == 'code':
            cell.outputs = []
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    NotebookClient(notebook, timeout=900, kernel_name='python3').execute()
    assert 'image/png' in kinds(notebook)
    after = table(notebook)
    assert after.keys() == before.keys()
    for loss, share in after.values():
        assert loss < 2.3  # less than who guesses among ten has
        assert share > 15
