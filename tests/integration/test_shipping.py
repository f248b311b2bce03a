"""A detector goes all the way: trained, to plain BN, tested by stock MMDetection, run in onnxruntime."""

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn

from mmdet_cbn.data.shapes import generate
from mmdet_cbn.layers import CrossIterationBatchNorm2d, MovingAverageBatchNorm2d, to_batch_norm
from tests.helpers.detectors import TINY_MASK_RCNN, retinanet
from tests.helpers.hidden import hiding

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow

# What stock MMDetection makes of a checkpoint, in a process that cannot import this package.
STOCK = """
import json
import sys
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmdet.apis import DetInferencer

checkpoint, work_dir, image = sys.argv[1:]
cfg = Config.fromstring(torch.load(checkpoint, weights_only=False)['meta']['cfg'], '.py')
cfg.update(load_from=checkpoint, work_dir=work_dir, log_level='WARNING')
metrics = Runner.from_cfg(cfg).test()
found = DetInferencer(weights=checkpoint, device='cpu', show_progress=False)(image)['predictions'][0]
assert 'mmdet_cbn' not in sys.modules
print(json.dumps({'metrics': metrics, 'found': found}))
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """A trained detector with MABN in the backbone, Naive CBN in the neck and CBN in the head."""
    folder = tmp_path_factory.mktemp('shipping')
    generate(folder / 'shapes', train=24, val=4, size=64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('SHAPES', str(folder / 'shapes'))
        cfg = Config.fromfile(TINY_MASK_RCNN)
    cfg.model = retinanet(
        {'type': 'MABN', 'buffer_size': 4, 'warmup_iters': 10},
        {'type': 'NaiveCBN'},
        {'type': 'CBN', 'window_size': 3},
        conv_cfg={'type': 'CenConv2d'},
    )
    cfg.model.bbox_head.num_classes = 4
    cfg.custom_hooks = [{'type': 'CrossIterationHook'}]
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.pipeline = [step for step in loader.dataset.pipeline]
    cfg.val_evaluator.metric = cfg.test_evaluator.metric = 'bbox'
    cfg.train_cfg.max_epochs = 6
    cfg.optim_wrapper.optimizer.lr = 0.02
    cfg.update(work_dir=str(folder / 'work'), log_level='WARNING', randomness={'seed': 0})
    cfg.dump(folder / 'config.py')
    runner = Runner.from_cfg(cfg)
    runner.train()
    (folder / 'metrics.json').write_text(json.dumps(runner.test()))
    return folder


@pytest.fixture(scope='module')
def plain(folder) -> Path:
    """The checkpoint with plain BN."""
    command = ['tools/convert_checkpoint.py', '--to-bn', folder / 'config.py', folder / 'work/epoch_6.pth']
    subprocess.run([sys.executable, *command, folder / 'bn.pth'], cwd=ROOT, check=True)
    return folder / 'bn.pth'


def trained_detector(folder: Path) -> nn.Module:
    model = MODELS.build(Config.fromfile(folder / 'config.py').model)
    model.load_state_dict(torch.load(folder / 'work/epoch_6.pth', weights_only=False)['state_dict'])
    assert any(isinstance(module, CrossIterationBatchNorm2d) for module in model.modules())
    assert any(isinstance(module, MovingAverageBatchNorm2d) for module in model.modules())
    return model.eval()


def test_stock_mmdetection_finds_the_same_without_this_package(folder, plain):
    from mmdet.apis import DetInferencer

    image = next((folder / 'shapes/val2017').iterdir())
    run = subprocess.run(
        [sys.executable, '-c', hiding(['mmdet_cbn']) + dedent(STOCK), plain, folder / 'stock', image],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    stock = json.loads(run.stdout.splitlines()[-1])
    ours = json.loads((folder / 'metrics.json').read_text())
    assert ours['coco/bbox_mAP'] > 0
    assert stock['metrics'] == ours
    inferencer = DetInferencer(
        str(folder / 'config.py'), str(folder / 'work/epoch_6.pth'), device='cpu', show_progress=False
    )
    found = inferencer(str(image))['predictions'][0]
    assert len(found['bboxes']) == 5
    assert stock['found']['labels'] == found['labels']
    for name in ('bboxes', 'scores'):
        torch.testing.assert_close(torch.tensor(stock['found'][name]), torch.tensor(found[name]))


class RawOutputs(nn.Module):
    """What a dense head predicts for each level; suppression and thresholds are not for ONNX."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, x):
        scores, boxes = self.detector.bbox_head(self.detector.extract_feat(x))
        return (*scores, *boxes)


@pytest.mark.skipif(
    tuple(map(int, torch.__version__.split('.')[:2])) < (2, 5),
    reason='torch 2.5 and later have both exporters',
)
@pytest.mark.parametrize('form', ['with the layers', 'plain'])
@pytest.mark.parametrize('dynamo', [False, True])
def test_onnxruntime_finds_the_same_boxes(folder, plain, dynamo, form, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    detector = trained_detector(folder)
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    metas = [{'img_shape': (64, 64), 'scale_factor': (1, 1)}]
    with torch.no_grad():
        expected = detector.bbox_head.predict(
            detector.extract_feat(x), [type('Sample', (), {'metainfo': metas[0]})()], rescale=False
        )[0]
    if form == 'plain':
        detector = to_batch_norm(detector)
        converted = torch.load(plain, weights_only=False)['state_dict']
        for name, tensor in detector.state_dict().items():
            torch.testing.assert_close(converted[name], tensor, rtol=0, atol=0)
    path = tmp_path / 'detector.onnx'
    torch.onnx.export(RawOutputs(detector).eval(), (x,), path, input_names=['x'], dynamo=dynamo)
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    maps = [torch.from_numpy(value) for value in session.run(None, {'x': x.numpy()})]
    levels = len(maps) // 2
    found = detector.bbox_head.predict_by_feat(
        maps[:levels], maps[levels:], batch_img_metas=metas, rescale=False
    )[0]
    assert len(found) == 5
    assert torch.equal(found.labels, expected.labels)
    torch.testing.assert_close(found.bboxes, expected.bboxes, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-5)
    box, score = ((found[name] - expected[name]).abs().max() for name in ('bboxes', 'scores'))
    print(f'| {form} | dynamo={dynamo} | {box:.1e} pixels | {score:.1e} |')  # the table of docs/any_model.md


def test_flops_and_the_graph_are_those_of_the_plain_model(folder, tmp_path):
    from mmengine.analysis import get_model_complexity_info

    detector = RawOutputs(trained_detector(folder)).eval()
    found = get_model_complexity_info(detector, inputs=torch.rand(1, 3, 64, 64))
    names = graph(detector, tmp_path / 'ours')
    to_batch_norm(detector)
    expected = get_model_complexity_info(detector, inputs=torch.rand(1, 3, 64, 64))
    assert found['flops'] == expected['flops'] > 0
    assert found['params'] == expected['params']
    convs = [name for name in graph(detector, tmp_path / 'plain') if name.endswith('_convolution')]
    assert [name for name in names if name.endswith('_convolution')] == convs != []


def graph(model: nn.Module, work_dir: Path) -> list[str]:
    """Return the kinds of operations in the graph that TensorBoard shows."""
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(work_dir) as writer:
        writer.add_graph(model, torch.rand(1, 3, 64, 64))
    events = EventAccumulator(str(work_dir)).Reload()
    return [node.op for node in events.Graph().node]
