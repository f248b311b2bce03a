"""The detection study: what it runs, what it keeps, and its table; the runs themselves are in tests/tools."""

import dataclasses
import json
import math
from pathlib import Path

import pytest

pytest.importorskip('mmdet')

from mmdet.testing import demo_mm_inputs
from mmengine.config import Config

from experiments.common.methods import METHODS
from experiments.common.plan import known_trials
from experiments.common.results import StudyError, result_file
from experiments.detection.__main__ import choose_regimes, count_photographs, link_photographs
from experiments.detection.comparisons import make_comparisons
from experiments.detection.configs import changes, config_text, pretraining_text
from experiments.detection.regimes import REGIMES
from experiments.detection.runs import (
    BOX_METRICS,
    measure,
    only_study,
    pretrain,
    read_result,
    result_folder,
    train_and_write,
)
from experiments.detection.trials import DetectionRun
from tests.configs.building import build

ROOT = Path(__file__).parents[3]
QUICKSTART = ROOT / 'configs' / 'quickstart'
RUN = DetectionRun('cbn', 1, 2, 0.01, 'scratch', 3)

GROWING = {'type': 'CBN', 'averaging': 'growing', 'window_gradient': True}
NORMS = {
    'bn': {'type': 'BN'},
    'bn-cen': {'type': 'BN'},
    'gn': {'type': 'GN', 'num_groups': 32},
    'gn-ws': {'type': 'GN', 'num_groups': 32},
    'sync-bn': {'type': 'NaiveCBN', 'window_size': 1, 'sync': True},
    'brn': {'type': 'BRN', 'warmup_iters': 250},
    'naive-cbn': {'type': 'NaiveCBN'},
    'cbn': {'type': 'CBN'},
    'cbn-window-gradient': {'type': 'CBN', 'window_gradient': True},
    'cbn-exponential': {'type': 'CBN', 'averaging': 'exponential'},
    'cbn-exponential-window-gradient': {'type': 'CBN', 'averaging': 'exponential', 'window_gradient': True},
    'naive-cbn-cen': {'type': 'NaiveCBN'},
    'cbn-cen': {'type': 'CBN'},
    'cbn-growing-window-gradient': GROWING,
    'cbn-growing-window-gradient-cen': GROWING,
    'avgbn': {'type': 'AvgBN'},
    'avgbn-cen': {'type': 'AvgBN'},
    'mabn': {'type': 'MABN'},
    'mabn-plain': {'type': 'MABN'},
}
CENTRED = ('bn-cen', 'naive-cbn-cen', 'cbn-cen', 'cbn-growing-window-gradient-cen', 'avgbn-cen', 'mabn')
CONVS = {**dict.fromkeys(CENTRED, {'type': 'CenConv2d'}), 'gn-ws': {'type': 'ConvWS'}}


def read_config(folder, run):
    path = folder / f'{run.name}.py'
    path.write_text(config_text(run, ROOT, folder))
    return Config.fromfile(path)


def test_the_runs_of_a_study():
    """Four learning rates of one seed; then, at the best of them, each seed that is compared."""
    comparisons = make_comparisons(['scratch', 'pretrained'], ['cbn', 'gn'], [2, 1], held_out=9)
    first = list(known_trials(comparisons, 3, {}.get))
    assert [(run.regime, run.batch_size, run.method, run.rate) for run in first[:9]] == [
        ('scratch', size, method, rate)
        for size, method in ((2, 'gn'), (2, 'cbn'), (1, 'gn'))
        for rate in (0.0001, 0.0003, 0.001, 0.003)
    ][:9]
    assert {(run.split, run.seed, run.held_out) for run in first} == {('validation', 1000, 9)}
    results = {run: {'diverged': None, 'population_box_ap': [run.rate == 0.001]} for run in first}
    more = [run for run in known_trials(comparisons, 3, results.get) if run not in results]
    assert [(run.rate, run.split, run.seed) for run in more if run.regime == 'scratch'][:3] == [
        (0.001, 'test', seed) for seed in range(3)
    ]
    assert len({run.name for run in first + more}) == len(first) + len(more)
    assert set(METHODS) == set(NORMS)


@pytest.mark.parametrize('regime', REGIMES)
@pytest.mark.parametrize('method', NORMS)
def test_norm_of_each_config(tmp_path, method, regime):
    cfg = read_config(tmp_path, DetectionRun(method, 1, 2, 0.01, regime, 3))
    model = cfg.model
    if regime == 'retinanet':
        parts = [model.neck, model.bbox_head]
    else:
        parts = [model.neck, model.roi_head.bbox_head, model.roi_head.mask_head]
    if regime == 'scratch':
        parts.append(model.backbone)
    for part in parts:
        norm = {name: value for name, value in part.norm_cfg.items() if name != 'requires_grad'}
        assert norm == NORMS[method]
        assert part.get('conv_cfg') == CONVS.get(method)
    hooks = [hook for hook in cfg.custom_hooks if 'window_size' in hook]
    paper = [{'type': 'CrossIterationHook', 'burn_in_epochs': 1.0, 'window_size': 8}]
    ours = [{'type': 'CrossIterationHook', 'burn_in_epochs': 0, 'window_size': 64}]
    own = ours if method.startswith(('avgbn', 'cbn-growing')) else paper
    assert hooks == (own if METHODS[method].window_size else [])


def test_a_pretrained_backbone_is_frozen_and_keeps_bn(tmp_path):
    backbone = read_config(tmp_path, DetectionRun('mabn', 1, 2, 0.01, 'pretrained', 3)).model.backbone
    assert (backbone.norm_cfg.type, backbone.get('conv_cfg')) == ('BN', None)
    assert (backbone.frozen_stages, backbone.norm_eval) == (4, True)
    weights = {'type': 'Pretrained', 'checkpoint': f'{tmp_path}/pretrained.pth', 'prefix': 'backbone.'}
    assert backbone.init_cfg == weights


def test_the_levels_of_the_retinanet_have_norms_of_their_own(tmp_path):
    """Behind convolutions that they share; each level has more than one position, also at one image."""
    cfg = read_config(tmp_path, DetectionRun('bn', 1, 2, 0.01, 'retinanet', 4))
    assert cfg.val_evaluator.metric == 'bbox'
    cfg.model.backbone.init_cfg = None
    model = build(cfg, 'cpu').train()
    levels = [[module.bn for module in level] for level in model.bbox_head.cls_convs]
    assert (len(levels), len({norm for level in levels for norm in level})) == (4, 16)
    assert len({module.conv for level in model.bbox_head.cls_convs for module in level}) == 4
    batch = demo_mm_inputs(1, [(3, 128, 128)], num_items=[3], num_classes=4)
    loss, _ = model.parse_losses(model(**model.data_preprocessor(batch, training=True), mode='loss'))
    assert loss.isfinite()
    assert all(norm.num_batches_tracked == 1 for level in levels for norm in level)


def test_splits_share_no_image_with_training(tmp_path):
    test, validation = (
        read_config(tmp_path, dataclasses.replace(RUN, split=split)) for split in ('test', 'validation')
    )
    (tmp_path / 'pretraining.py').write_text(pretraining_text(ROOT, tmp_path, 8))
    before = Config.fromfile(tmp_path / 'pretraining.py')
    assert test.train_dataloader.dataset.data_root == f'{tmp_path}/data'
    assert validation.train_dataloader == test.train_dataloader
    assert before.train_dataloader.dataset.data_root == f'{tmp_path}/other_data'
    for cfg, folder in ((test, 'data'), (validation, 'other_data')):
        assert cfg.val_dataloader.dataset.data_root == f'{tmp_path}/{folder}'
        assert cfg.val_evaluator.ann_file == f'{tmp_path}/{folder}/annotations/instances_val2017.json'


def test_exposures_differ_in_training_and_test_alike(tmp_path):
    for regime, varies in (('scratch', False), ('pretrained', True)):
        cfg = read_config(tmp_path, dataclasses.replace(RUN, regime=regime))
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            steps = [step.type for step in loader.dataset.pipeline]
            assert ('VaryExposure' in steps) == varies
            assert steps[0] == 'LoadImageFromFile'
        assert ('RandomFlip' in [step.type for step in cfg.train_dataloader.dataset.pipeline]) is True
        assert cfg.train_dataloader.dataset.data_root == cfg.val_dataloader.dataset.data_root


def test_photographs_are_fitted(tmp_path):
    """Trained and evaluated on the same images, of one size: padding would enter the statistics."""
    (comparison,) = make_comparisons(['photographs'], ['bn'], [1], photographs=30, train_images=500)
    (run,) = {r for row in comparison.settings.values() for r in row.values()}
    assert (run.train_images, run.held_out, run.iterations) == (30, 30, 15)
    cfg = read_config(tmp_path, run)
    train, held_out = (loader.dataset for loader in (cfg.train_dataloader, cfg.val_dataloader))
    for dataset in (train, held_out):
        assert (dataset.data_root, dataset.data_prefix.img) == (f'{tmp_path}/photographs', 'train2017/')
        assert not dataset.metainfo  # COCO's
        (resize,) = (step for step in dataset.pipeline if step.type == 'Resize')
        assert (resize.scale, resize.keep_ratio) == ((256, 256), False)
    annotations = f'{tmp_path}/photographs/annotations/instances_train2017.json'
    assert f'{train.data_root}/{train.ann_file}' == cfg.val_evaluator.ann_file == annotations
    assert cfg.model.roi_head.bbox_head.num_classes == cfg.model.roi_head.mask_head.num_classes == 80
    assert cfg.model.backbone.frozen_stages == 4


def test_photographs_are_counted(tmp_path):
    assert count_photographs(tmp_path / 'coco') == 0
    (tmp_path / 'coco' / 'annotations').mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match='coco/annotations/instances_train2017'):
        count_photographs(tmp_path / 'coco')
    objects = {'annotations': [{'image_id': number} for number in (4, 7, 4)]}
    (tmp_path / 'coco' / 'annotations' / 'instances_train2017.json').write_text(json.dumps(objects))
    assert count_photographs(tmp_path / 'coco') == 2


def test_photographs_are_linked(tmp_path):
    link = tmp_path / 'photographs'
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
    for given, expected in (('a', 'a'), ('b', 'b'), ('photographs', 'b')):
        link_photographs(tmp_path / given, tmp_path)
        assert link.resolve() == tmp_path / expected


def test_settings_say_what_is_done_to_the_images():
    settings = {regime: dataclasses.replace(RUN, regime=regime).settings for regime in REGIMES}
    assert {regime: of['exposures'] for regime, of in settings.items()} == {
        'scratch': None,
        'pretrained': [0.25, 1.0, -60.0, 60.0],
        'retinanet': [0.25, 1.0, -60.0, 60.0],
        'photographs': None,
    }
    assert settings['photographs']['photograph_size'] == [256, 256]


def test_regimes_by_their_data():
    assert choose_regimes(None, 0) == ['scratch', 'pretrained', 'retinanet']
    assert choose_regimes(None, 3) == list(REGIMES)
    assert choose_regimes(['photographs'], 3) == ['photographs']
    with pytest.raises(StudyError, match='needs --photographs DIR'):
        choose_regimes(['photographs'], 0)


def test_schedules(tmp_path):
    """250 iterations of 2 x 1 images an epoch, warmed up over 200 images, at 0.01 an image."""
    for regime, optimizer in (('scratch', 'AdamW'), ('pretrained', 'SGD')):
        cfg = read_config(tmp_path, DetectionRun('brn', 1, 1, 0.01, regime, 12))
        assert cfg.model.neck.norm_cfg.warmup_iters == 1000
        assert cfg.optim_wrapper.optimizer.type == optimizer
        assert cfg.optim_wrapper.optimizer.lr == pytest.approx(0.02)
        assert not cfg.auto_scale_lr.enable
        assert cfg.default_hooks.checkpoint is None
        assert (cfg.train_cfg.max_epochs, cfg.train_cfg.val_interval, cfg.randomness.seed) == (12, 12, 1)
        warm_up, schedule = cfg.param_scheduler
        assert (warm_up.by_epoch, warm_up.end) == (schedule.by_epoch, 100) == (False, 100)
        assert schedule.end == 3000
        if regime == 'pretrained':
            assert schedule.milestones == [2000, 2750]
    stock = Config.fromfile(QUICKSTART / 'mask-rcnn_r18_fpn_4conv1fc_bn_shapes.py')
    own = read_config(tmp_path, dataclasses.replace(RUN, method='bn'))
    for model in (own.model, stock.model):
        heads = model.roi_head.bbox_head, model.roi_head.mask_head
        for part in (model.backbone, model.neck, *heads):
            part.norm_cfg.requires_grad = True  # BN's default, which some bases spell out
    assert own.model == stock.model


def test_a_shorter_run_warms_up_less():
    shorter = {'epochs': 2, 'processes': 1, 'train_images': 9}
    run = DetectionRun('brn', 2, 0, 0.01, 'scratch', **shorter)
    assert run.iterations == 5
    assert changes(run)['model']['neck']['norm_cfg']['warmup_iters'] == 3
    *_, hook = changes(dataclasses.replace(run, method='cbn'))['custom_hooks']
    assert hook['burn_in_epochs'] == pytest.approx(2 / 3)


def result(box_ap=0.5, mask_ap=0.25, diverged=None, run=RUN):
    return {
        'settings': run.settings,
        **{f'{prefix}box_ap': [box_ap] for prefix in ('', 'slow_', 'population_')},
        **{f'{prefix}mask_ap': [mask_ap] for prefix in ('', 'slow_', 'population_')},
        'training_loss': [1.0],
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
    assert [path.name for path in (tmp_path / 'results').iterdir()] == [
        'scratch_cbn_batch1_rate0.01_test_seed2.json'
    ]


def test_results_of_other_settings_are_refused(tmp_path):
    write(tmp_path, result(run=dataclasses.replace(RUN, held_out=60)))
    with pytest.raises(StudyError, match=r'seed2\.json was run with other settings than held_out 200, '):
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


def write_statistics(folder, **metrics):
    """As the hook does: COCO's metrics by kind of statistics, for box and mask."""
    text = {
        kind: dict(zip(('coco/bbox_mAP', 'coco/segm_mAP'), values, strict=False))
        for kind, values in metrics.items()
    }
    (folder / 'other_statistics.json').write_text(json.dumps(text))


def test_what_a_run_reached(tmp_path):
    log_rows(tmp_path, train_row(10, 3.0), train_row(20, 1.0), train_row(110, 0.5), {'step': 3})
    write_statistics(tmp_path, running=(0.31, 0.29), slow=(0.33, 0.3), population=(0.4, 0.35))
    assert measure(tmp_path) == {
        'box_ap': [0.31],
        'mask_ap': [0.29],
        'slow_box_ap': [0.33],
        'slow_mask_ap': [0.3],
        'population_box_ap': [0.4],
        'population_mask_ap': [0.35],
        'training_loss': [2.0, 0.5],
        'diverged': None,
    }


def test_what_a_run_without_masks_reached(tmp_path):
    log_rows(tmp_path, train_row(10))
    write_statistics(tmp_path, running=(0.3,), slow=(0.2,), population=(0.4,))
    found = measure(tmp_path, BOX_METRICS)
    aps = {name: value for name, value in found.items() if name.endswith('_ap')}
    assert aps == {'box_ap': [0.3], 'slow_box_ap': [0.2], 'population_box_ap': [0.4]}
    run = dataclasses.replace(RUN, regime='retinanet')
    write(tmp_path, {'settings': run.settings, **found, 'seconds': 1.0, 'torch': '2'}, run)
    assert read_result(tmp_path, run)['box_ap'] == [0.3]


def test_a_loss_that_is_lost_and_no_detections(tmp_path):
    log_rows(tmp_path, train_row(10), train_row(110, math.nan), train_row(210, math.nan), {'step': 3})
    write_statistics(tmp_path, running=(), slow=(), population=())
    found = measure(tmp_path)
    assert (found['box_ap'], found['slow_mask_ap'], found['diverged']) == ([0.0], [0.0], 2)
    assert found['training_loss'] == [1.0]


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
        pytest.raises(StudyError, match=r'rate0.01_test_seed2 failed \(exit status 3\).*output\.log'),
    ):
        train_and_write(RUN, root, out, lock)
    assert (out / 'runs' / RUN.name / 'output.log').read_text() == 'what went wrong\n'
    assert read_result(out, RUN) is None


def test_a_run_starts_in_a_clean_folder_and_leaves_a_result(tmp_path):
    log_rows(tmp_path / 'logged', train_row(10))
    write_statistics(tmp_path / 'logged', running=(0.31, 0.29), slow=(0.3, 0.2), population=(0.4, 0.3))
    root = make_root(
        tmp_path / 'root', f'echo "$@"; readlink /proc/$$/fd/*; cp -r {tmp_path}/logged/* "${{@: -1}}"'
    )
    out = tmp_path / 'out'
    log_rows(out / 'runs' / RUN.name, train_row(10), train_row(20))  # of a run that was cut off
    with only_study(out) as lock:
        train_and_write(RUN, root, out, lock)
    written = read_result(out, RUN)
    assert (written['box_ap'], written['mask_ap'], written['diverged']) == ([0.31], [0.29], None)
    assert 0 <= written['seconds'] < 60
    arguments, *open_files = (out / 'runs' / RUN.name / 'output.log').read_text().splitlines()
    assert arguments == f'{out}/configs/{RUN.name}.py 2 --work-dir {out}/runs/{RUN.name}'
    assert f'{out}/.lock' in open_files  # a run that outlives its study keeps others out


def test_a_backbone_is_trained_once(tmp_path):
    root = make_root(tmp_path / 'root', 'echo weights > "${@: -1}/epoch_3.pth"')
    out = tmp_path / 'out'
    with only_study(out) as lock:
        pretrain(2, root, out, lock, epochs=3)
        assert (out / 'pretrained.pth').read_text() == 'weights\n'
        (root / 'tools' / 'dist_train.sh').write_text('exit 3')
        pretrain(2, root, out, lock, epochs=3)


def test_one_study_at_a_time(tmp_path):
    with only_study(tmp_path), pytest.raises(StudyError, match='is at work in'), only_study(tmp_path):
        pass
    with only_study(tmp_path):
        pass
