"""The detection study: what it runs, what it keeps, and its table; the runs themselves are in tests/tools."""

import csv
import dataclasses
import io
import json
import math
from pathlib import Path

import pytest

pytest.importorskip('mmdet')

from mmengine.config import Config

from experiments.common.methods import METHODS
from experiments.common.results import StudyError, result_file
from experiments.detection.plan import DetectionRun, changes, config_text, plan_runs
from experiments.detection.runs import measure, only_study, read_result, result_folder, train_and_write
from experiments.detection.tables import table, to_csv, to_markdown

ROOT = Path(__file__).parents[3]
RUN = DetectionRun('cbn', batch_size=1, seed=2)

NORMS = {
    'bn': {'type': 'BN'},
    'gn': {'type': 'GN', 'num_groups': 32},
    'gn-ws': {'type': 'GN', 'num_groups': 32},
    'sync-bn': {'type': 'NaiveCBN', 'window_size': 1, 'sync': True},
    'brn': {'type': 'BRN', 'warmup_iters': 250},
    'naive-cbn': {'type': 'NaiveCBN', 'window_size': 4},  # which the hook replaces
    'cbn': {'type': 'CBN', 'window_size': 4},
    'cbn-window-gradient': {'type': 'CBN', 'window_size': 4, 'window_gradient': True},
    'cbn-exponential': {'type': 'CBN', 'window_size': 4, 'averaging': 'exponential'},
    'cbn-exponential-window-gradient': {
        'type': 'CBN',
        'window_size': 4,
        'averaging': 'exponential',
        'window_gradient': True,
    },
    'mabn': {'type': 'MABN', 'buffer_size': 16},
}


def read_config(folder, run):
    path = folder / f'{run.name}.py'
    path.write_text(config_text(run, ROOT, folder / 'data'))
    return Config.fromfile(path)


def test_all_of_seed_0_comes_first():
    runs = plan_runs(['gn', 'cbn'], [2, 1], 2)
    assert [run.name for run in runs] == [
        'gn_batch2_seed0',
        'cbn_batch2_seed0',
        'gn_batch1_seed0',
        'cbn_batch1_seed0',
        'gn_batch2_seed1',
        'cbn_batch2_seed1',
        'gn_batch1_seed1',
        'cbn_batch1_seed1',
    ]
    assert set(METHODS) == set(NORMS)
    assert len({run.name for run in plan_runs(list(METHODS), [1, 2], 3)}) == 11 * 2 * 3


@pytest.mark.parametrize('method', NORMS)
def test_norm_of_each_config(tmp_path, method):
    cfg = read_config(tmp_path, DetectionRun(method, 1, 2))
    model = cfg.model
    for part in (model.backbone, model.neck, model.roi_head.bbox_head, model.roi_head.mask_head):
        norm = {name: value for name, value in part.norm_cfg.items() if name != 'requires_grad'}
        assert norm == NORMS[method]
        convs = {'mabn': {'type': 'CenConv2d'}, 'gn-ws': {'type': 'ConvWS'}}
        assert part.get('conv_cfg') == convs.get(method)
    hooks = [hook for hook in cfg.get('custom_hooks', []) if 'window_size' in hook]
    windowed = [{'type': 'CrossIterationHook', 'burn_in_epochs': 1.0, 'window_size': 'auto'}]
    assert hooks == (windowed if METHODS[method].has_window else [])


def test_what_all_configs_share(tmp_path):
    """Batch 1 has twice the iterations: warm-ups are twice as long, and the linear rule halves the rate."""
    for batch_size, warm_up in ((2, 50), (1, 100)):
        run = DetectionRun('brn', batch_size, 1)
        cfg = read_config(tmp_path, run)
        stock = Config.fromfile(ROOT / 'configs' / 'quickstart' / 'mask-rcnn_r18_fpn_4conv1fc_brn_shapes.py')
        assert (run.iterations, cfg.model.neck.norm_cfg.warmup_iters) == (250 // batch_size,) * 2
        assert cfg.train_dataloader.batch_size == batch_size
        assert [schedule['end'] for schedule in cfg.param_scheduler] == [warm_up, 3]
        assert (cfg.train_cfg.max_epochs, cfg.train_cfg.val_interval) == (3, 3)
        assert cfg.auto_scale_lr == {'enable': True, 'base_batch_size': 4}
        assert cfg.default_hooks.checkpoint is None
        assert cfg.randomness.seed == 1
        data = str(tmp_path / 'data')
        assert cfg.train_dataloader.dataset.data_root == cfg.val_dataloader.dataset.data_root == data
        assert cfg.val_evaluator.ann_file == f'{data}/annotations/instances_val2017.json'
        assert cfg.optim_wrapper == stock.optim_wrapper
        if batch_size == 2:  # at the quickstart's own batch size the study trains as it does
            assert cfg.model == stock.model
            assert [dict(schedule) for schedule in cfg.param_scheduler] == [
                {name: value for name, value in schedule.items() if name != '_scope_'}
                for schedule in stock.param_scheduler
            ]


def test_a_shorter_run_warms_up_less():
    shorter = {'epochs': 2, 'processes': 1, 'train_images': 9}
    assert DetectionRun('bn', 2, 0, **shorter).iterations == 5
    assert changes(DetectionRun('brn', 2, 0, **shorter))['model']['neck']['norm_cfg'] == {'warmup_iters': 3}
    (hook,) = changes(DetectionRun('cbn', 2, 0, **shorter))['custom_hooks']
    assert hook['burn_in_epochs'] == pytest.approx(2 / 3)


def result(box_ap=0.5, mask_ap=0.25, diverged=None, run=RUN):
    return {
        'settings': run.settings,
        'box_ap': [box_ap],
        'mask_ap': [mask_ap],
        'diverged': diverged,
        'seconds': 9.5,
        'torch': '2',
    }


def write(out, content, run=RUN):
    path = result_file(result_folder(out), run)
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def test_results_are_read(tmp_path):
    assert read_result(tmp_path, RUN) is None
    write(tmp_path, result())
    assert read_result(tmp_path, RUN) == result()
    assert [path.name for path in (tmp_path / 'results').iterdir()] == ['cbn_batch1_seed2.json']


def test_results_of_other_settings_are_refused(tmp_path):
    write(tmp_path, result(run=dataclasses.replace(RUN, val_images=60)))
    with pytest.raises(StudyError, match=r'seed2\.json was run with other settings than val_images 200;'):
        read_result(tmp_path, RUN)


@pytest.mark.parametrize(
    'content',
    ['', '{', '[]', '{"settings": 3}', {'settings': {}}, result() | {'box_ap': []}, result(math.nan)],
)
def test_a_damaged_result_is_named(tmp_path, content):
    write(tmp_path, content)
    with pytest.raises(StudyError, match=r'seed2\.json does not hold a result .*; delete it'):
        read_result(tmp_path, RUN)


def log_rows(folder, *rows):
    log = folder / '20260101_000000' / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text(''.join(json.dumps(row) + '\n' for row in rows))


def train_row(step, loss=1.0):
    return {'loss': loss, 'epoch': 1 + step // 100, 'step': step}


def test_what_a_run_reached(tmp_path):
    log_rows(tmp_path, train_row(10), {'coco/bbox_mAP': 0.31, 'coco/segm_mAP': 0.29, 'step': 3})
    assert measure(tmp_path) == {'box_ap': [0.31], 'mask_ap': [0.29], 'diverged': None}


def test_a_loss_that_is_lost_and_no_detections(tmp_path):
    log_rows(tmp_path, train_row(10), train_row(110, math.nan), train_row(210, math.nan), {'step': 3})
    assert measure(tmp_path) == {'box_ap': [0.0], 'mask_ap': [0.0], 'diverged': 2}


def test_a_run_without_validation(tmp_path):
    with pytest.raises(StudyError, match='no log of a training'):
        measure(tmp_path)
    log_rows(tmp_path, train_row(10))
    with pytest.raises(StudyError, match=r'without a validation.*output\.log'):
        measure(tmp_path)


def make_root(folder, script):
    """A checkout whose dist_train.sh does something else."""
    (folder / 'tools').mkdir(parents=True)
    (folder / 'tools' / 'dist_train.sh').write_text(script)
    return folder


def test_a_failed_run_names_its_log_and_has_no_result(tmp_path):
    root = make_root(tmp_path / 'root', 'echo what went wrong; exit 3')
    out = tmp_path / 'out'
    with (
        only_study(out) as lock,
        pytest.raises(StudyError, match=r'cbn_batch1_seed2 failed \(exit status 3\).*output\.log'),
    ):
        train_and_write(RUN, root, out, lock)
    assert (out / 'runs' / RUN.name / 'output.log').read_text() == 'what went wrong\n'
    assert read_result(out, RUN) is None


def test_a_run_starts_in_a_clean_folder_and_leaves_a_result(tmp_path):
    rows = [train_row(10), {'coco/bbox_mAP': 0.31, 'coco/segm_mAP': 0.29, 'step': 3}]
    log_rows(tmp_path / 'logged', *rows)
    root = make_root(
        tmp_path / 'root', f'echo "$@"; readlink /proc/$$/fd/*; cp -r {tmp_path}/logged/* "${{@: -1}}"'
    )
    out = tmp_path / 'out'
    log_rows(out / 'runs' / RUN.name, *rows, *rows)  # of a run that was cut off
    with only_study(out) as lock:
        train_and_write(RUN, root, out, lock)
    written = read_result(out, RUN)
    assert (written['box_ap'], written['mask_ap'], written['diverged']) == ([0.31], [0.29], None)
    assert 0 <= written['seconds'] < 60
    arguments, *open_files = (out / 'runs' / RUN.name / 'output.log').read_text().splitlines()
    assert arguments == f'{out}/configs/{RUN.name}.py 2 --work-dir {out}/runs/{RUN.name}'
    assert f'{out}/.lock' in open_files  # a run that outlives its study keeps others out


def test_one_study_at_a_time(tmp_path):
    with only_study(tmp_path), pytest.raises(StudyError, match='is at work in'), only_study(tmp_path):
        pass
    with only_study(tmp_path):
        pass


RESULTS = {
    DetectionRun('gn', 2, 0): result(0.4, 0.3),
    DetectionRun('cbn', 1, 0): result(0.25, 0.2),
    DetectionRun('bn', 2, 0): result(0.5, 0.40),
    DetectionRun('bn', 2, 1): result(0.52, 0.44),
    DetectionRun('bn', 2, 2): result(0.57, 0.48),
    DetectionRun('cbn', 1, 1): result(0.9, 0.9, diverged=2),
}
# Standard deviations: sqrt((3^2 + 1^2 + 4^2) / 2) of 50, 52, 57, and sqrt((4^2 + 4^2) / 2) of 40, 44, 48.
TABLE = [
    ['norm', 'box AP, batch 1', 'mask AP, batch 1', 'n', 'box AP, batch 2', 'mask AP, batch 2', 'n'],
    ['BN', '-', '-', '0', '53.0 ± 3.6', '44.0 ± 4.0', '3'],
    ['GN', '-', '-', '0', '40.0', '30.0', '1'],
    ['CBN', '25.0 (1 of 2 diverged)', '20.0 (1 of 2 diverged)', '2', '-', '-', '0'],
]


def test_table_of_what_there_is():
    assert table(RESULTS) == TABLE
    text = to_markdown(RESULTS).splitlines()
    assert [cell.strip() for cell in text[2].strip('|').split('|')] == TABLE[1]
    assert 'NaiveCBN' in text[-1] + text[-2]


def test_one_line_a_run():
    rows = list(csv.DictReader(io.StringIO(to_csv(RESULTS))))
    assert len(rows) == 6
    assert rows[4] == {
        'method': 'bn',
        'batch_size': '2',
        'seed': '2',
        'box_ap': '0.57',
        'mask_ap': '0.48',
        'diverged': '',
        'seconds': '9.5',
        'torch': '2',
    }
    assert rows[5]['diverged'] == '2'
