import matplotlib.image
import numpy as np
import pytest

pytest.importorskip('mmengine')

from matplotlib.figure import Figure

from experiments.reports.curves import plot_curves
from experiments.reports.runs import Run


@pytest.fixture
def axes(monkeypatch):
    """The axes of the figure that is drawn."""
    found = []
    subplots = Figure.subplots

    def keep(self, *args, **kwargs):
        result = subplots(self, *args, **kwargs)
        found.extend(result)
        return result

    monkeypatch.setattr(Figure, 'subplots', keep)
    return found


def run(losses, aps, **more):
    return Run(
        [{'step': 10 * step, 'loss': loss, **more} for step, loss in enumerate(losses, 1)],
        [{'step': step, 'coco/bbox_mAP': ap, 'coco/segm_mAP': ap / 2} for step, ap in enumerate(aps, 1)],
    )


def data(line):
    return np.transpose(line.get_data()).tolist()


def test_one_run(tmp_path, axes):
    plot_curves({'mine': run([3, 2, 1], [0.1, 0.4], epoch=1)}, tmp_path / 'curves.png')
    losses, metrics = axes
    assert [data(line) for line in losses.lines] == [[[10, 3], [20, 2], [30, 1]]]
    assert {line.get_label(): data(line) for line in metrics.lines} == {
        'box AP': [[1, 0.1], [2, 0.4]],
        'mask AP': [[1, 0.05], [2, 0.2]],
    }
    assert metrics.get_xlabel() == 'epoch'
    assert matplotlib.image.imread(tmp_path / 'curves.png').std() > 0


def test_several_runs_keep_their_colours(tmp_path, axes):
    runs = {'first': run([3, 2], [0.1]), 'second': run([4, 3], [0.2])}
    plot_curves(runs, tmp_path / 'curves.svg', metrics=['coco/bbox_mAP'])
    losses, metrics = axes
    assert [line.get_label() for line in losses.lines] == ['first', 'second']
    assert [line.get_label() for line in metrics.lines] == ['first, box AP', 'second, box AP']
    colours = [[line.get_color() for line in part.lines] for part in axes]
    assert colours[0] == colours[1]
    assert len(set(colours[0])) == 2
    assert metrics.get_xlabel() == 'iteration'


def test_run_that_was_never_validated(tmp_path, axes):
    plot_curves({'mine': run([3], [])}, tmp_path / 'curves.png')
    assert not axes[1].lines


def test_loss_over_the_epochs(tmp_path, axes):
    """Two rows an epoch, of which the third has had one."""
    rows = [{'step': 10 * step, 'loss': 1.0, 'epoch': (step + 1) // 2} for step in range(1, 6)]
    plot_curves({'mine': Run(rows, [])}, tmp_path / 'curves.png', loss_by_epoch=True)
    assert axes[0].lines[0].get_xdata().tolist() == [0.5, 1.0, 1.5, 2.0, 2.5]
    assert axes[0].get_xlabel() == 'epoch'
