"""sync=True: several processes compute what one process computes on the joined batch."""

from functools import partial

import pytest
import torch
from torch import distributed, nn

from mmdet_cbn.layers import NaiveCrossIterationBatchNorm2d, pair_conv_norm
from tests.helpers import processes
from tests.helpers.norms import NORMS

STEPS = 6
# Images of each process in each step: unequal, empty in some, empty in all.
SIZES = {
    2: [(2, 2), (1, 3), (3, 0), (0, 2), (0, 0), (1, 1)],
    3: [(1, 2, 1), (0, 2, 3), (2, 0, 0), (0, 0, 0), (0, 0, 2), (2, 1, 1)],
}
LAYERS = {
    'CBN': partial(NORMS['CBN'], burn_in=1),
    'CBN with window_gradient': NORMS['CBN with window_gradient'],
    'CBN without affine': partial(NORMS['CBN'], affine=False),
    'CBN, k = 1': partial(NORMS['CBN'], window_size=1),
    'NaiveCBN': NORMS['NaiveCBN'],
    'CBN, exponential': NORMS['CBN, exponential'],
    'NaiveCBN, exponential': partial(NORMS['NaiveCBN'], averaging='exponential'),
}


def make_model(name, dtype, **arguments):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, dtype=dtype),
        LAYERS[name](6, dtype=dtype, **arguments),
        nn.SiLU(),
        nn.Conv2d(6, 6, 1, bias=False, dtype=dtype),
        LAYERS[name](6, dtype=dtype, **arguments),
    )
    pair_conv_norm(model)
    return model


def batches(sizes, dtype):
    generator = torch.Generator().manual_seed(1)
    for parts in sizes:
        x = 1 + torch.randn(sum(parts), 4, 7, 6, generator=generator, dtype=torch.float64)
        factor = torch.randn(sum(parts), 6, 4, 3, generator=generator, dtype=torch.float64)
        yield x.to(dtype), factor.to(dtype)


def run(name, dtype, sizes, rank=None):
    """Train on all images, or on those of one process; return everything that must agree."""
    model = make_model(name, dtype, sync=rank is not None)
    record = []
    for parts, (x, factor) in zip(sizes, batches(sizes, dtype), strict=True):
        if rank is not None:
            own = slice(sum(parts[:rank]), sum(parts[: rank + 1]))
            x, factor = x[own], factor[own]
        x.requires_grad_()
        model.zero_grad()
        out = model(x)
        (out * factor).sum().backward()
        for parameter in model.parameters():
            if rank is not None:  # DDP takes the mean, which is the sum but for the scale of the loss
                distributed.all_reduce(parameter.grad)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.002 * parameter.grad
        grads = [parameter.grad.clone() for parameter in model.parameters()]
        # That no process has data is not known on the host, so such a step counts as an iteration.
        buffers = [b.clone() for name, b in model.named_buffers() if not name.endswith('iterations')]
        record.append((out.detach(), x.grad, grads, buffers))
    return record


def worker(rank, name, dtype, sizes, folder):
    torch.save(run(name, dtype, sizes, rank), folder / f'{rank}.pt')


def single_value(rank, folder):
    norm = NaiveCrossIterationBatchNorm2d(3, sync=True)
    out = norm(torch.full((1 - rank, 3, 1, 1), 5.0))  # nothing in process 1
    torch.save((out.detach(), norm.running_mean, norm.running_var), folder / f'{rank}.pt')


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-10), (torch.float32, 1e-6)])
@pytest.mark.parametrize('name', LAYERS)
@pytest.mark.parametrize('world_size', SIZES)
def test_processes_equal_one_process_on_the_joined_batch(name, world_size, dtype, tolerance, tmp_path):
    sizes = SIZES[world_size]
    processes.run(worker, name, dtype, sizes, tmp_path, processes=world_size)
    records = [torch.load(tmp_path / f'{rank}.pt') for rank in range(world_size)]
    expected = run(name, dtype, sizes)
    for step in range(STEPS):
        out, grad_x, grads, buffers = expected[step]
        parts = [record[step] for record in records]
        assert_close(torch.cat([part[0] for part in parts]), out, tolerance)
        assert_close(torch.cat([part[1] for part in parts]), grad_x, tolerance)
        for part in parts:
            for found, wanted in ((part[2], grads), (part[3], buffers)):
                assert_close(flat(found), flat(wanted), tolerance)


def flat(tensors):
    return torch.cat([tensor.double().flatten() for tensor in tensors])


def assert_close(found, wanted, tolerance):
    """Compare relative to the largest value: the gradient of a bias before a norm cancels."""
    assert found.shape == wanted.shape
    largest = max([1, *wanted.abs().flatten().tolist()])
    assert ((found - wanted).abs() <= tolerance * largest).all()


def test_a_single_value_in_all_processes_moves_the_mean_alone(tmp_path):
    processes.run(single_value, tmp_path, processes=2)
    records = [torch.load(tmp_path / f'{rank}.pt') for rank in range(2)]
    assert torch.equal(records[0][0], torch.zeros(1, 3, 1, 1))
    for _, running_mean, running_var in records:
        assert torch.equal(running_mean, torch.full((3,), 0.5))
        assert torch.equal(running_var, torch.ones(3))


def test_without_a_process_group_it_changes_nothing():
    plain, joint = (make_model('CBN', torch.float64, sync=sync) for sync in (False, True))
    for x, _ in batches(SIZES[2], torch.float64):
        assert torch.equal(plain(x), joint(x))
