"""The recorder beside written-out formulas, and what it leaves behind in a model: nothing."""

import copy
from weakref import ref

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmdet_cbn.analysis.statistics.file import LayerStatistics, StatisticsFileError, read_statistics
from mmdet_cbn.analysis.statistics.recorder import StatisticsRecorder
from mmdet_cbn.layers import (
    BatchRenorm2d,
    CenteredConv2d,
    CrossIterationBatchNorm2d,
    MovingAverageBatchNorm2d,
    NaiveCrossIterationBatchNorm2d,
    pair_conv_norm,
)

NORMS = {
    'BN': lambda: nn.BatchNorm2d(4),
    'BN without affine': lambda: nn.BatchNorm2d(4, affine=False),
    'CBN': lambda: CrossIterationBatchNorm2d(4, window_size=3),
    'NaiveCBN': lambda: NaiveCrossIterationBatchNorm2d(4, window_size=3),
    'BRN': lambda: BatchRenorm2d(4, warmup_iters=2),
    'MABN': lambda: MovingAverageBatchNorm2d(4, buffer_size=2, warmup_iters=0),
}
SKEW = torch.arange(1.0, 5.0, dtype=torch.float64)  # so that no two channels are alike


def make_model(name: str, conv: type[nn.Conv2d] = nn.Conv2d) -> nn.Sequential:
    """Convolution, norm and a ReLU that overwrites the norm's output."""
    block = nn.Sequential(conv(2, 4, 3), NORMS[name](), nn.ReLU(inplace=True)).double()
    for parameter in block[1].parameters():
        nn.init.normal_(parameter, mean=0.5)
    pair_conv_norm(block)
    return block


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 2, 6, 6, dtype=torch.float64)


def loss_of(activations: Tensor) -> Tensor:
    return (activations.square() * SKEW[:, None, None]).sum().sqrt()


def l2(values: Tensor) -> float:
    return values.square().sum().sqrt().item()


def per_channel(values: Tensor) -> Tensor:
    """(N, C, H, W) to (C, N * H * W)."""
    return values.transpose(0, 1).flatten(1)


def oracle(norm: nn.Module, x: Tensor, out: Tensor, grad_x: Tensor) -> dict[str, float]:
    """Tell from input, output and the input's gradient what the statistics were.

    The output is gamma * y_hat + beta, and y_hat an affine map of x by the statistics in use.
    """
    gamma, beta = (
        torch.full((4,), default, dtype=x.dtype) if parameter is None else parameter.detach()
        for parameter, default in ((norm.weight, 1.0), (norm.bias, 0.0))
    )
    y_hat = ((out - beta[:, None, None]) / gamma[:, None, None]).requires_grad_()
    loss_of((gamma[:, None, None] * y_hat + beta[:, None, None]).relu()).backward()
    g, psi = per_channel(y_hat.grad).mean(1), per_channel(y_hat.grad * y_hat).mean(1)
    x, y_hat = per_channel(x), per_channel(y_hat.detach())
    mean = x.sum(1) / x.size(1)
    var = ((x - mean[:, None]) ** 2).sum(1) / x.size(1)
    expected = {'mean': mean, 'var': var, 'chi2': (x**2).sum(1) / x.size(1), 'g': g, 'psi': psi}
    first, last = x.argmin(1, keepdim=True), x.argmax(1, keepdim=True)
    slope = (y_hat.gather(1, last) - y_hat.gather(1, first)) / (x.gather(1, last) - x.gather(1, first))
    used_mean = (x.gather(1, first) - y_hat.gather(1, first) / slope)[:, 0]
    used_var = slope[:, 0] ** -2 - norm.eps
    if isinstance(norm, MovingAverageBatchNorm2d):
        assert used_mean.abs().max() < 1e-12
        # eq. 20, solved for the statistic: dL/dx = slope * (dL/dy_hat - y_hat * psi)
        residual = per_channel(loss_gradient(gamma, beta, out)) - per_channel(grad_x) / slope
        used_psi = (residual * y_hat).sum(1) / y_hat.square().sum(1)
        expected |= {'chi2_in_use': used_var, 'psi_in_use': used_psi}
    elif not isinstance(norm, nn.BatchNorm2d):
        expected |= {'mean_in_use': used_mean, 'var_in_use': used_var}
    return {key: l2(values) for key, values in expected.items()}


def loss_gradient(gamma: Tensor, beta: Tensor, out: Tensor) -> Tensor:
    """dL/dy_hat."""
    out = out.clone().requires_grad_()
    loss_of(out.relu()).backward()
    return gamma[:, None, None] * out.grad


def train(model: nn.Sequential, steps: int) -> list[dict[str, float]]:
    """Train, and return what the recorder should have recorded of the norm in each step."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    expected = []
    for _ in range(steps):
        x = model[0](images())
        x.retain_grad()
        y = model[1](x)
        out = y.detach().clone()
        optimizer.zero_grad()
        loss_of(model[2](y)).backward()
        expected.append(oracle(model[1], x.detach(), out, x.grad))
        optimizer.step()
    return expected


@pytest.mark.parametrize('name', NORMS)
def test_statistics_are_those_of_the_formulas(name):
    model = make_model(name, CenteredConv2d)
    with StatisticsRecorder(model) as recorder:
        expected = train(model, steps=5)
    layer = recorder.statistics()['1']
    assert layer.kind == type(model[1]).__name__
    assert layer.records['call'].tolist() == [1, 2, 3, 4, 5]
    window = {'clamped', 'compensation'} if name == 'CBN' else set()
    assert layer.records.keys() - window - {'call'} == expected[0].keys()
    for key in expected[0]:
        np.testing.assert_allclose(layer.records[key], [row[key] for row in expected], rtol=1e-9, err_msg=key)


def test_mabn_with_its_correction_towards_the_running_value():
    model = make_model('MABN')
    model[1].iterations.fill_(1000)
    with StatisticsRecorder(model) as recorder:
        expected = train(model, steps=3)
    records = recorder.statistics()['1'].records
    assert not np.allclose(records['chi2_in_use'], records['chi2'])
    for key in ('chi2_in_use', 'g', 'psi'):
        np.testing.assert_allclose(records[key], [row[key] for row in expected], rtol=1e-9)


def test_window_of_cbn_is_looked_at_before_the_batch_enters():
    """The layer was paired from another root, and its own convolution is the one to look at."""
    model = nn.Sequential(nn.Conv2d(2, 2, 1).double(), make_model('CBN'))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    keys, expected = ('clamped', 'compensation'), []
    with StatisticsRecorder(model) as recorder:
        for _ in range(4):
            report = model[1][1].diagnose(model[1][0])
            expected.append([report[key].item() for key in keys] if report else [np.nan] * 2)
            loss_of(model(images())).backward()
            optimizer.step()
    records = recorder.statistics()['1.1'].records
    np.testing.assert_array_equal(np.transpose([records[key] for key in keys]), expected)
    assert np.isnan(expected[0]).all()
    assert max(clamped for clamped, _ in expected[1:]) > 0


def test_vectors_and_half_precision():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    x = torch.randn(8, 3)
    with StatisticsRecorder(model) as exact:
        model(x).exp().mul(SKEW.float()).sum().backward()
    with StatisticsRecorder(model) as recorder, torch.autocast('cpu', torch.bfloat16):
        model(x).exp().mul(SKEW.float()).sum().backward()
    for key, values in exact.statistics()['1'].records.items():
        np.testing.assert_allclose(recorder.statistics()['1'].records[key], values, rtol=0.05, atol=1e-3)


def test_shared_layer_has_a_record_for_each_call():
    model = make_model('BN')
    first, second = images(2), images(3)
    with StatisticsRecorder(model) as recorder:
        (loss_of(model(first)) + loss_of(model(second))).backward()
        with pytest.raises(ValueError, match='no recorded layer ran exactly once'), recorder.reference():
            nn.Sequential(model, nn.Identity(), CenteredConv2d(4, 2, 1).double(), model)(first)
    with StatisticsRecorder(model) as alone:
        loss_of(model(second)).backward()
        loss_of(model(first)).backward()
    records = recorder.statistics()['1'].records
    for key in ('mean', 'g', 'psi'):
        np.testing.assert_allclose(records[key], alone.statistics()['1'].records[key][::-1], rtol=1e-12)


def test_what_does_not_count():
    model = make_model('BN')
    with StatisticsRecorder(model) as recorder:
        model.eval()(images())
        model.train()
        with torch.no_grad():
            model(images())
        model[1](torch.zeros(0, 4, 3, 3, dtype=torch.float64, requires_grad=True))
        assert len(recorder.statistics()['1'].records['call']) == 0
        model(images())
    records = recorder.statistics()['1'].records
    assert records['call'].tolist() == [1]
    assert np.isnan(records['psi'][0])  # no backward pass


@pytest.mark.parametrize(('use_reentrant', 'count'), [(False, 3), (True, 0)])
@pytest.mark.parametrize('name', ['BN', 'CBN', 'MABN'])
def test_activation_checkpointing_counts_no_call_twice(name, use_reentrant, count):
    model = make_model(name)
    with StatisticsRecorder(model) as recorder:
        for _ in range(3):
            out = checkpoint(model, images().requires_grad_(), use_reentrant=use_reentrant)
            loss_of(out).backward()
    records = recorder.statistics()['1'].records
    assert len(records['call']) == count
    assert np.isfinite(records['psi']).all()


def test_limit_and_interval_leave_every_nth_record():
    """Also where backward passes come long after the forward passes."""
    model = make_model('MABN')
    with (
        StatisticsRecorder(model) as everything,
        StatisticsRecorder(model, limit=4) as short,
        StatisticsRecorder(model, interval=3, limit=3) as odd,
    ):
        losses = [loss_of(model(images())) for _ in range(11)]
        for loss in losses:
            loss.backward()
        loss_of(model(images())).backward()
    full = everything.statistics()['1'].records
    assert full['call'].tolist() == list(range(1, 13))
    for recorder, calls in ((short, [1, 5, 9]), (odd, [1, 7])):
        records = recorder.statistics()['1'].records
        assert records['call'].tolist() == calls
        for key, values in records.items():
            np.testing.assert_array_equal(values, full[key][np.array(calls) - 1], err_msg=key)


def test_values_do_not_pile_up_on_the_device(monkeypatch):
    monkeypatch.setattr('mmdet_cbn.analysis.statistics.recorder._WAITING', 8)
    model = make_model('BN')
    with StatisticsRecorder(model) as recorder:
        for _ in range(10):
            loss_of(model(images())).backward()
            assert len(recorder._waiting) < 8
    assert np.isfinite(recorder.statistics()['1'].records['psi']).all()


def test_second_backward_pass_adds_nothing():
    model = make_model('MABN')
    with StatisticsRecorder(model) as recorder:
        loss = loss_of(model(images()))
        loss.backward(retain_graph=True)
        first = recorder.statistics()['1'].records
        (3 * loss).backward()
    np.testing.assert_equal(recorder.statistics()['1'].records, first)


@pytest.mark.parametrize('name', ['CBN', 'MABN'])
def test_graph_without_a_backward_pass_is_freed_at_once(name):
    model = make_model(name)
    with StatisticsRecorder(model):
        out = model[1](model[0](images()))
        node = ref(out.grad_fn)
        del out
        assert node() is None


def hooks(model: nn.Module) -> list[tuple[int, int]]:
    return [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]


def test_no_hook_stays_behind():
    model = nn.Sequential(make_model('CBN'), nn.Conv2d(4, 2, 1).double(), make_model('BN'))
    before = hooks(model)

    def fail() -> None:
        recorder = StatisticsRecorder(model)
        with recorder:
            assert hooks(model) != before
            loss_of(model(images())).backward()
            with pytest.raises(RuntimeError, match='records already'):
                recorder.__enter__()
            with recorder.reference():
                raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert hooks(model) == before
    assert all(module.training for module in model.modules())


def test_patterns():
    model = nn.Sequential(make_model('BN'), make_model('MABN'), make_model('BN'))
    with StatisticsRecorder(model, ['0.*', '2.1']) as recorder:
        pass
    assert list(recorder.statistics()) == ['0.1', '2.1']
    with pytest.raises(
        ValueError, match="'head.\\*' matches no batch norm of Sequential, which has 0.1, 1.1, 2.1"
    ):
        StatisticsRecorder(model, ['0.*', 'head.*'])
    with pytest.raises(ValueError, match='matches no batch norm of Linear, which has none'):
        StatisticsRecorder(nn.Linear(2, 2))
    with pytest.raises(ValueError, match='limit'):
        StatisticsRecorder(model, limit=1)


def deep_model(name: str) -> nn.Sequential:
    """Two layers, so that the second one's input depends on how the first one normalizes, and dropout."""
    first, second = make_model(name), nn.Sequential(nn.Conv2d(4, 4, 3), NORMS[name]()).double()
    pair_conv_norm(second)
    return nn.Sequential(first, nn.Dropout(0.3), second)


def memory(model: nn.Module) -> dict[str, Tensor]:
    """All that a model may remember: parameters, buffers, windows."""
    state = dict(model.state_dict())
    for name, module in model.named_modules():
        window = getattr(module, 'window', None)
        state |= {
            f'{name} {key}': value
            for key, value in vars(window or nn.Identity()).items()
            if isinstance(value, Tensor)
        }
    return {key: value.clone() for key, value in state.items()}


@pytest.mark.parametrize('name', NORMS)
def test_recorder_and_reference_leave_the_training_as_it_was(name):
    model = deep_model(name)
    model[0][0].weight.requires_grad_(False)
    twin = copy.deepcopy(model)
    batches, larger = [images() for _ in range(4)], images(16)
    ends = []
    for network in (model, twin):
        torch.manual_seed(3)
        optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
        recorder = StatisticsRecorder(network)
        for batch in batches:
            with recorder if network is model else torch.enable_grad():
                loss_of(network(batch)).backward()
                if network is model:
                    modes = [module.training for module in network.modules()]
                    with recorder.reference():
                        network(larger)
                    assert [module.training for module in network.modules()] == modes
                optimizer.step()
        ends.append((memory(network), torch.get_rng_state()))
    (recorded, state), (alone, other_state) = ends
    assert recorded.keys() == alone.keys()
    for key, value in recorded.items():
        assert torch.equal(value, alone[key]), key
    assert torch.equal(state, other_state)


def forward_by_hand(model: nn.Sequential, x: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Mean, variance and mean of squares of both layers, each normalized by its own."""
    found = []
    for conv, norm in ((model[0][0], model[0][1]), (model[2][0], model[2][1])):
        x = conv(x)
        flat = per_channel(x)
        mean, square = flat.mean(1), flat.pow(2).mean(1)
        var = (flat - mean[:, None]).pow(2).mean(1)
        found.append((mean, var, square))
        if isinstance(norm, MovingAverageBatchNorm2d):
            x = x / (square + norm.eps).sqrt()[:, None, None]
        else:
            x = (x - mean[:, None, None]) / (var + norm.eps).sqrt()[:, None, None]
        x = (norm.weight[:, None, None] * x + norm.bias[:, None, None]).relu()
    return found


@pytest.mark.parametrize('name', ['BN', 'CBN', 'MABN'])
@torch.no_grad()
def test_distances_from_a_reference_batch(name):
    model = deep_model(name)
    model[1].p = 0.0
    eps, larger = model[0][1].eps, images(16)
    with StatisticsRecorder(model) as recorder:
        with pytest.raises(ValueError, match='there is none yet'), recorder.reference():
            pass
        for _ in range(4):
            with torch.enable_grad():
                seen = [images()]
                for layer in (model[0][0], model[0][1], model[2][0], model[2][1]):
                    seen.append(layer(seen[-1]) if layer is not model[2][0] else layer(seen[-1].relu()))
                loss_of(seen[-1]).backward()
            with recorder.reference():
                model(larger)
            expected = forward_by_hand(model, larger)
    for place, (mean, var, square) in zip((0, 2), expected, strict=True):
        errors = recorder.statistics()[f'{place}.1'].errors
        assert errors['call'].tolist() == [1, 2, 3, 4]
        x, y = (per_channel(values) for values in seen[place + 1 : place + 3])
        norm = model[place][1]
        y_hat = (y - norm.bias[:, None]) / norm.weight[:, None]
        slope = ((y_hat - y_hat.mean(1, keepdim=True)) * (x - x.mean(1, keepdim=True))).mean(1)
        slope /= (x - x.mean(1, keepdim=True)).square().mean(1)
        used_mean, used_var = x.mean(1) - y_hat.mean(1) / slope, slope**-2 - eps
        if name == 'MABN':
            checked = {'chi2': x.square().mean(1), 'chi2_in_use': used_var}
            reference = square
        else:
            checked = {'var': x.var(1, unbiased=False)} | ({'var_in_use': used_var} if name == 'CBN' else {})
            reference = var
        for key, values in checked.items():
            relative = (values + eps) / (reference + eps) - 1
            np.testing.assert_allclose(errors[key][-1], relative.square().mean().sqrt(), rtol=1e-9)
        means = {'mean': x.mean(1)} | ({'mean_in_use': used_mean} if name == 'CBN' else {})
        for key, values in ({} if name == 'MABN' else means).items():
            distance = (values - mean) / (var + eps).sqrt()
            np.testing.assert_allclose(errors[key][-1], distance.square().mean().sqrt(), rtol=1e-9)
        assert set(errors) == {'call'} | checked.keys() | (set() if name == 'MABN' else means.keys())


def test_frozen_layers_stay_frozen_in_the_reference():
    model = deep_model('BN')
    model[0].eval()
    with StatisticsRecorder(model) as recorder:
        loss_of(model(images())).backward()
        with recorder.reference():
            model(images(8))
    assert not model[0][1].training
    statistics = recorder.statistics()
    assert [len(statistics[name].errors['call']) for name in ('0.1', '2.1')] == [0, 1]


def test_file(tmp_path):
    model = deep_model('CBN')
    with StatisticsRecorder(model) as recorder:
        loss_of(model(images())).backward()
        with recorder.reference():
            model(images(8))
    path = tmp_path / 'made/run.npz'
    recorder.save(path)
    read, kept = read_statistics(path), recorder.statistics()
    assert list(read) == list(kept) == ['0.1', '2.1']
    for name, layer in read.items():
        assert isinstance(layer, LayerStatistics)
        assert layer.kind == 'CrossIterationBatchNorm2d'
        np.testing.assert_equal(layer.records, kept[name].records)
        np.testing.assert_equal(layer.errors, kept[name].errors)
    assert [file.name for file in path.parent.iterdir()] == ['run.npz']
    with pytest.raises(ValueError, match='has to end in .npz'):
        recorder.save(tmp_path / 'run.csv')


def test_other_files_are_refused(tmp_path):
    path = tmp_path / 'run.npz'
    with pytest.raises(StatisticsFileError, match='run.npz: no such file'):
        read_statistics(path)
    with StatisticsRecorder(make_model('BN')) as recorder:
        recorder.save(path)
    whole = path.read_bytes()
    for content in (b'', b'no archive', whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(StatisticsFileError, match='run.npz cannot be read'):
            read_statistics(path)
    np.savez(path, mean=np.zeros(3))
    with pytest.raises(StatisticsFileError, match='run.npz is not a file of statistics'):
        read_statistics(path)
    np.save(path.with_suffix('.npy'), np.zeros(3))
    with pytest.raises(StatisticsFileError, match='run.npy is not a file of statistics'):
        read_statistics(path.with_suffix('.npy'))
