"""Where runs stand, read from work folders as MMEngine lays them out, with a small config of their own."""

import json
import os
import shutil
from datetime import datetime
from pathlib import Path

import pytest

pytest.importorskip('mmengine')

from mmengine.config import Config

from experiments.reports.configs import read_dumped_config
from experiments.reports.entries import ReportError, read_entry

CONFIG = """
max_epochs = 12
data_root = '{{$COCO_ROOT:data/coco}}'
model = dict(type='FasterRCNN', backbone=dict(depth=50))
custom_hooks = [dict(type='CrossIterationHook', burn_in_epochs=3)]
train_dataloader = dict(dataset=dict(data_root=data_root, ann_file='train.json'))
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
load_from = None
"""
FIRST, SECOND = '20260101_000000', '20260102_000000'


@pytest.fixture
def configs(tmp_path):
    folder = tmp_path / 'repository/configs'
    (folder / 'cbn').mkdir(parents=True)
    (folder / 'cbn/detector.py').write_text(CONFIG)
    return folder


@pytest.fixture
def start(tmp_path, configs):
    """Start a run in tmp_path/work: log its rows, and leave the metrics of a test."""

    def start(*rows, time=FIRST, name='detector', test=None, work_dir=tmp_path / 'work', **options):
        config = Config.fromfile(configs / 'cbn/detector.py')
        config.merge_from_dict({'launcher': 'pytorch', 'work_dir': str(work_dir), **options})
        folder = work_dir / time
        (folder / 'vis_data').mkdir(parents=True)
        config.dump(work_dir / f'{name}.py')
        config.dump(folder / 'vis_data/config.py')
        (folder / f'{time}.log').touch()
        if rows:
            lines = (json.dumps(row) + '\n' for row in rows)
            (folder / 'vis_data/scalars.json').write_text(''.join(lines))
        if test:
            (folder / f'{time}.json').write_text(json.dumps(test))
        return work_dir

    return start


def train(epoch, loss=1.0):
    return [
        {'lr': 0.02, 'loss': loss, 'loss_cls': 0.5, 'time': 0.5, 'epoch': epoch, 'iter': step, 'step': step}
        for step in (100 * epoch - 50, 100 * epoch)
    ]


def metrics(ap, **others):
    return {'coco/bbox_mAP': ap, 'coco/bbox_mAP_50': ap + 0.1, 'coco/bbox_mAP_l': -1.0, 'time': 0.1, **others}


def val(epoch, ap, **others):
    return {**metrics(ap, **others), 'step': epoch}


def whole(ap=0.376):
    return [row for epoch in range(1, 13) for row in (*train(epoch), val(epoch, ap - (12 - epoch) / 100))]


def test_finished(start, configs):
    work_dir = start(*whole(0.376))
    entry = read_entry(work_dir, configs)
    assert (entry.status, entry.where, entry.final) == ('finished', '12 epochs', True)
    assert entry.config == 'configs/cbn/detector.py'
    assert entry.changed == []
    assert entry.ours == pytest.approx({'box AP': 37.6, 'box AP50': 47.6})  # and no large objects
    assert entry.published == {}
    assert len(entry.log.val) == 12


def test_masks(start, configs):
    sizes = {
        f'coco/segm_mAP{key}': 0.1 + number / 100
        for number, key in enumerate(['', '_50', '_75', '_s', '_m', '_l'])
    }
    entry = read_entry(start(*whole()[:-1], val(12, 0.4, **sizes)), configs)
    names = ['mask AP', 'mask AP50', 'mask AP75', 'mask AP S', 'mask AP M', 'mask AP L']
    assert {name: entry.ours[name] for name in names} == pytest.approx(
        dict(zip(names, [10, 11, 12, 13, 14, 15], strict=True))
    )


def test_unfinished(start, configs):
    """In the seventh epoch of twelve."""
    work_dir = start(*whole(0.376)[:18], *train(7)[:1])
    for path in work_dir.rglob('*'):
        os.utime(path, (0, datetime(2026, 1, 1, 13, 5).timestamp()))
    entry = read_entry(work_dir, configs)
    assert (entry.status, entry.final) == ('unfinished', False)
    assert entry.where == 'epoch 7 of 12; box AP 31.6 after epoch 6; last log 2026-01-01 13:05'
    assert entry.ours['box AP'] == pytest.approx(31.6)
    assert entry.differences == {}


def test_killed_before_the_last_validation(start, configs):
    entry = read_entry(start(*whole()[:-1]), configs)
    assert entry.status == 'unfinished'
    assert entry.where.startswith('epoch 12 of 12; box AP 36.6 after epoch 11; ')


def test_resumed_and_finished(start, configs):
    start(*whole()[:20])
    work_dir = start(*whole()[18:], time=SECOND, resume=True)
    assert read_entry(work_dir, configs).where == '12 epochs'


def test_trained_anew_in_the_folder_of_a_finished_run(start, configs):
    """What the first run measured does not count for the second."""
    start(*whole())
    entry = read_entry(start(*train(1), time=SECOND), configs)
    assert (entry.status, entry.ours) == ('unfinished', {})
    assert entry.where.startswith('epoch 1 of 12; last log')


def test_loss_that_is_no_number(start, configs):
    """Also at the end of training: such a run does not count as finished."""
    rows = whole()
    entry = read_entry(start(*rows[:30], *train(11, float('nan'))), configs)
    assert entry.status == 'failed'
    assert entry.where.startswith('loss is nan; epoch 11 of 12; box AP 35.6 after epoch 10; last log')
    rows = [*rows[:-3], *train(12, float('inf')), rows[-1]]
    entry = read_entry(start(*rows, time=SECOND), configs)
    assert (entry.status, entry.differences) == ('failed', {})


def test_nothing_logged(start, configs):
    """It failed in the middle of its first preparations, or right after."""
    work_dir = start()
    entry = read_entry(work_dir, configs)
    assert (entry.status, entry.log, entry.ours) == ('failed', None, {})
    assert f'nothing was trained or evaluated, see {work_dir / FIRST}/*.log' == entry.where
    assert entry.config == 'configs/cbn/detector.py'


def test_nothing_detected(start, configs):
    """CocoMetric reports no metric then."""
    entry = read_entry(start(*whole()[:-1], {'time': 0.1, 'step': 12}), configs)
    assert (entry.status, entry.where, entry.ours) == (
        'finished',
        '12 epochs; no AP, so nothing was detected',
        {},
    )


def test_evaluation_alone(start, configs):
    start(test=metrics(0.2), load_from='checkpoints/old.pth')
    work_dir = start(test=metrics(0.3), time=SECOND, load_from='checkpoints/converted.pth')
    entry = read_entry(work_dir, configs)
    assert (entry.status, entry.where, entry.final, entry.log) == ('evaluated', 'converted.pth', True, None)
    assert entry.ours['box AP'] == pytest.approx(30)
    assert entry.changed == []


def test_evaluation_killed_while_it_wrote(start, configs):
    work_dir = start(test=metrics(0.2), load_from='checkpoints/some.pth')
    (work_dir / FIRST / f'{FIRST}.json').write_text('{"coco/bb')
    assert read_entry(work_dir, configs).ours == {}


def test_training_counts_before_an_evaluation_of_another_epoch(start, configs):
    start(*whole(0.376))
    work_dir = start(time=SECOND, test=metrics(0.2), load_from='work/epoch_4.pth')
    assert read_entry(work_dir, configs).ours['box AP'] == pytest.approx(37.6)


def test_evaluation_of_the_last_checkpoint_counts(start, configs):
    start(*whole()[:-1])
    work_dir = start(time=SECOND, test=metrics(0.38), load_from='work/epoch_12.pth')
    entry = read_entry(work_dir, configs)
    assert (entry.status, entry.where) == ('finished', '12 epochs')
    assert entry.ours['box AP'] == pytest.approx(38)


def test_evaluation_from_before_the_training_does_not(start, configs):
    start(test=metrics(0.38), load_from='work/epoch_12.pth')
    work_dir = start(*whole(0.376), time=SECOND)
    assert read_entry(work_dir, configs).ours['box AP'] == pytest.approx(37.6)


def test_training_by_iterations(start, configs):
    rows = [{key: value for key, value in row.items() if key != 'epoch'} for row in train(3)]
    loop = {'train_cfg': {'type': 'IterBasedTrainLoop', 'max_iters': 300, '_delete_': True}}
    work_dir = start(*rows, **loop)
    assert read_entry(work_dir, configs).where.startswith('iteration 300 of 300; last log')
    assert read_entry(start(*rows, val(300, 0.1), time=SECOND, **loop), configs).where == '300 iterations'


def test_changed_settings(start, configs):
    work_dir = start(
        *whole(), **{'custom_hooks.0.window_size': 8, 'train_cfg.max_epochs': 12, 'randomness.seed': 1}
    )
    assert read_entry(work_dir, configs).changed == ['custom_hooks.0.window_size=8', 'randomness.seed=1']


def test_other_place_of_the_data_is_no_change(start, configs, monkeypatch, capfd):
    """And nothing is printed where the report may stand."""
    monkeypatch.setenv('COCO_ROOT', '/coco')
    work_dir = start(*whole(), **{'model_wrapper_cfg.device_ids': None})  # as in processes on the CPU
    capfd.readouterr()
    monkeypatch.setenv('COCO_ROOT', '/other')
    assert read_entry(work_dir, configs).changed == []
    assert capfd.readouterr() == ('', '')


def test_two_folders_have_a_config_of_this_name(start, configs):
    """As the released models have with the configs that trained them: the settings tell them apart."""
    (configs / 'baselines').mkdir()
    (configs / 'baselines/detector.py').write_text(CONFIG.replace('depth=50', 'depth=101'))
    assert read_entry(start(*whole()), configs).config == 'configs/cbn/detector.py'
    other = start(*whole(), time=SECOND, **{'model.backbone.depth': 101, 'custom_hooks.0.burn_in_epochs': 1})
    entry = read_entry(other, configs)
    assert entry.config == 'configs/baselines/detector.py'
    assert entry.changed == ['custom_hooks.0.burn_in_epochs=1']


def test_config_of_somebody_else(start, configs):
    entry = read_entry(start(*whole(), name='mine'), configs)
    assert (entry.config, entry.status, entry.published, entry.changed) == ('mine', 'finished', {}, [])


def test_two_configs_in_one_folder(start, configs):
    """The copy of the newest run is the one with the same text."""
    start(*whole(), name='other', **{'custom_hooks.0.window_size': 2})
    assert read_entry(start(*whole(), time=SECOND), configs).config == 'configs/cbn/detector.py'


def test_config_that_cannot_be_read(start, configs):
    work_dir = start(*whole())
    (work_dir / FIRST / 'vis_data/config.py').write_text('model = dict(')
    entry = read_entry(work_dir, configs)
    assert (entry.status, entry.config, entry.final) == ('unknown', 'detector', False)
    assert entry.where.startswith(
        'no readable config in the folder; epoch 12; box AP 37.6 after epoch 12; last log'
    )


def test_config_that_is_missing(start, configs):
    work_dir = start(*whole())
    (work_dir / FIRST / 'vis_data/config.py').unlink()
    (work_dir / 'detector.py').rename(work_dir / 'mine.py')
    assert read_entry(work_dir, configs).config == 'mine'
    (work_dir / 'other.py').touch()
    entry = read_entry(work_dir, configs)
    assert (entry.status, entry.config) == ('unknown', '-')


def test_folders_without_a_run(start, tmp_path, configs):
    with pytest.raises(ReportError, match=f'no folder {tmp_path}/nowhere'):
        read_entry(tmp_path / 'nowhere', configs)
    work_dir = start(*whole())
    with pytest.raises(ReportError, match=f'no folder {work_dir}/detector.py'):
        read_entry(work_dir / 'detector.py', configs)
    with pytest.raises(ReportError, match=f'no run in {tmp_path}: '):
        read_entry(tmp_path, configs)
    shutil.rmtree(work_dir / FIRST)
    with pytest.raises(ReportError, match=f'no run in {work_dir}: '):
        read_entry(work_dir, configs)


METAFILE = """
Models:
  - Name: other
    Metadata: {Paper Results: {Metrics: {box AP: 50.0}}}
  - Name: detector
    Metadata:
      Epochs: 12
      Paper Results:
        Row: Table 4
        Metrics:
          box AP: 38
          box AP75: 41.5
      Repository Results:
        Metrics:
          box AP: 37.0
    Results: [{Metrics: {box AP: 10.0}}]
"""


def test_paper_and_repository(start, configs):
    (configs / 'cbn/metafile.yml').write_text(METAFILE)
    entry = read_entry(start(*whole(0.376)), configs)
    assert entry.published == {'paper': {'box AP': 38, 'box AP75': 41.5}, 'repository': {'box AP': 37}}
    assert entry.differences['paper'] == pytest.approx({'box AP': -0.4})
    assert entry.differences['repository'] == pytest.approx({'box AP': 0.6})
    unfinished = read_entry(start(*whole()[:9], time=SECOND), configs)
    assert (unfinished.published, unfinished.differences) == (entry.published, {})


@pytest.mark.parametrize(
    'lines', ['{}', '{Metadata: {Epochs: 12}}', '{Metadata: {Paper Results: {Row: Figure 3}}}']
)
def test_paper_without_numbers(start, configs, lines):
    text = f'Models:\n  - {lines}'.replace('{', '{Name: detector, ', 1)
    (configs / 'cbn/metafile.yml').write_text(text)
    assert read_entry(start(*whole()), configs).published == {}


def test_a_config_of_a_foreign_run_is_not_executed(start, configs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    work_dir = start(*whole())
    for attack in (
        "import pathlib\npathlib.Path('executed').touch()\n",
        "train_cfg = dict(max_epochs=__import__('pathlib').Path('executed').touch())\n",
        "max_epochs = [open('executed', 'w') for _ in range(1)]\n",
    ):
        for path in (work_dir / 'detector.py', work_dir / FIRST / 'vis_data/config.py'):
            path.write_text(attack)
        entry = read_entry(work_dir, configs)
        assert (entry.status, entry.ours['box AP']) == ('unknown', pytest.approx(37.6))
        assert entry.where.startswith('no readable config in the folder; ')
    assert not Path('executed').exists()


def test_all_that_mmengine_writes_into_a_config_is_read_back(tmp_path):
    settings = {
        'numbers': [1, -2, 0.5, -1e-3, float('inf'), float('-inf'), True, None],
        'nested': [{'a': ({'b': [{}]}, ()), 'type': 'X'}, [[1, 2], ('x',)]],
        'texts': ['it\'s "so"', 'two\nlines', 'h\u00e9'],
        'keys': {'a-b': 1, 2: 'two', 'inner': {'x y': dict(z=[1])}},
        'empty': {},
    }
    Config(settings).dump(tmp_path / 'config.py')
    assert read_dumped_config(tmp_path / 'config.py').to_dict() == Config(settings).to_dict()


@pytest.mark.parametrize('value', ['12', 'None', '{}', '[1]', "dict(max_epochs='x')", 'dict(max_epochs=[])'])
def test_a_config_without_a_length_of_training(start, configs, value):
    work_dir = start(*whole())
    (work_dir / FIRST / 'vis_data/config.py').write_text(f'train_cfg = {value}\nload_from = 3\n')
    assert read_entry(work_dir, configs).status == 'unknown'


@pytest.mark.parametrize('content', [b'[1]', b'"x"', b'{"coco/bbox_mAP": "high"}', b'\xff', b''])
def test_a_damaged_evaluation(start, configs, content):
    work_dir = start(test=metrics(0.3))
    (work_dir / FIRST / f'{FIRST}.json').write_bytes(content)
    entry = read_entry(work_dir, configs)
    assert (entry.status, entry.ours) == ('evaluated', {})
