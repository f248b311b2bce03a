import json

import pytest

pytest.importorskip('mmengine')

from experiments.reports.runs import read_run, read_test_metrics


def write(work_dir, time, *rows):
    path = work_dir / time / 'vis_data/scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return path


def train(step, loss, **more):
    return {'loss': loss, 'lr': 0.1, 'step': step, **more}


def val(step, ap):
    return {'coco/bbox_mAP': ap, 'step': step}


def test_losses_and_metrics_are_told_apart(tmp_path):
    write(tmp_path, '20260101_000000', train(1, 3.0, epoch=1), train(2, 2.0, epoch=1), val(1, 0.5))
    run = read_run(tmp_path)
    assert [row['loss'] for row in run.train] == [3.0, 2.0]
    assert run.val == [val(1, 0.5)]
    assert run.by_epoch


def test_training_by_iterations(tmp_path):
    write(tmp_path, '20260101_000000', train(1, 3.0), val(1, 0.5))
    assert not read_run(tmp_path).by_epoch


def test_restart_replaces_what_it_repeats(tmp_path):
    """Killed at iteration 25 (epoch 2 ended at 20), resumed from there."""
    first = [train(step, 1.0) for step in (5, 10, 15, 20, 25)]
    write(tmp_path, '20260101_000000', *first[:2], val(1, 0.1), *first[2:4], val(2, 0.2), first[4])
    write(tmp_path, '20260101_010000')  # another attempt, which logged nothing
    write(tmp_path, '20260102_000000', train(25, 2.0), train(30, 2.0), val(3, 0.3))
    run = read_run(tmp_path)
    assert [row['step'] for row in run.train] == [5, 10, 15, 20, 25, 30]
    assert [row['loss'] for row in run.train] == [1.0, 1.0, 1.0, 1.0, 2.0, 2.0]
    assert [row['step'] for row in run.val] == [1, 2, 3]


def test_training_anew_in_the_same_folder_replaces_everything(tmp_path):
    write(tmp_path, '20260101_000000', train(5, 1.0), train(10, 1.0), val(1, 0.1), val(2, 0.2))
    write(tmp_path, '20260102_000000', train(5, 2.0), val(1, 0.3))
    run = read_run(tmp_path)
    assert [row['loss'] for row in run.train] == [2.0]
    assert run.val == [val(1, 0.3)]


def test_line_cut_short_is_left_out(tmp_path):
    path = write(tmp_path, '20260101_000000', train(1, 3.0))
    with path.open('a') as file:
        file.write('{"loss": 2.5, "st')
    assert len(read_run(tmp_path).train) == 1


@pytest.mark.parametrize(
    'line',
    [
        b'[1, 2]',
        b'"loss"',
        b'7',
        b'{"loss": 2.5}',
        b'{"loss": "low", "step": "seven"}',
        b'{"loss": 2.5, "step": null}',
        b'{"loss": 2.5, "step": NaN, "epoch": 1}',
        b'{"loss": 2.5, "step": 1' + b'0' * 400 + b'}',
        b'{"loss": 2.5, "step": 7}',  # of no epoch, among lines of epochs
        b'\xff\xfe{}',
        b'[' * 100_000,
    ],
)
def test_lines_that_mmengine_did_not_write_are_left_out(tmp_path, line):
    path = write(tmp_path, '20260101_000000', train(1, 3.0, epoch=1))
    path.write_bytes(path.read_bytes() + line + b'\n' + b'{"loss": 2.0, "step": 2, "epoch": 1}\n')
    assert [row['step'] for row in read_run(tmp_path).train] == [1, 2]


def test_folder_without_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        read_run(tmp_path)
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        read_test_metrics(tmp_path)


def test_metrics_of_the_last_evaluation(tmp_path):
    for time, ap in (('20260101_000000', 0.1), ('20260102_000000', 0.2)):
        (tmp_path / time).mkdir()
        (tmp_path / time / f'{time}.json').write_text(json.dumps({'coco/bbox_mAP': ap}))
        (tmp_path / time / 'results.bbox.json').write_text('[]')
    assert read_test_metrics(tmp_path) == {'coco/bbox_mAP': 0.2}


def test_metrics_that_are_none(tmp_path):
    (tmp_path / '20260101_000000').mkdir()
    (tmp_path / '20260101_000000/20260101_000000.json').write_text('[0.1]')
    with pytest.raises(ValueError, match=r'20260101_000000\.json holds no metrics'):
        read_test_metrics(tmp_path)


def test_metrics_that_two_processes_wrote(tmp_path):
    """The text of the second is shorter, and the end of the first shows behind it."""
    (tmp_path / '20260101_000000').mkdir()
    path = tmp_path / '20260101_000000/20260101_000000.json'
    path.write_text('{"coco/bbox_mAP": 0.1, "time": 0.25}3}')
    assert read_test_metrics(tmp_path) == {'coco/bbox_mAP': 0.1, 'time': 0.25}
