"""sync=True: several processes compute what one process computes on the joined batch."""

import os
import socket
import tempfile
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn

from mmdet_cbn.layers import CrossIterationBatchNorm2d, NaiveCrossIterationBatchNorm2d, pair_conv_norm

STEPS = 6
# Forks of this process would inherit the locks of its OpenMP threads, but not the threads.
multiprocessing.set_forkserver_preload(['torch', 'mmdet_cbn.layers'])
# Images of each process in each step: unequal, empty in some, empty in all.
SIZES = {
    2: [(2, 2), (1, 3), (3, 0), (0, 2), (0, 0), (1, 1)],
    3: [(1, 2, 1), (0, 2, 3), (2, 0, 0), (0, 0, 0), (0, 0, 2), (2, 1, 1)],
}
LAYERS = {
    'CBN': lambda **kw: CrossIterationBatchNorm2d(6, window_size=3, burn_in=1, **kw),
    'CBN with window_gradient': lambda **kw: CrossIterationBatchNorm2d(
        6, window_size=3, window_gradient=True, **kw
    ),
    'CBN without affine': lambda **kw: CrossIterationBatchNorm2d(6, window_size=3, affine=False, **kw),
    'CBN, k = 1': lambda **kw: CrossIterationBatchNorm2d(6, window_size=1, **kw),
    'NaiveCBN': lambda **kw: NaiveCrossIterationBatchNorm2d(6, window_size=3, **kw),
}


def make_model(name, dtype, **arguments):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, dtype=dtype),
        LAYERS[name](dtype=dtype, **arguments),
        nn.SiLU(),
        nn.Conv2d(6, 6, 1, bias=False, dtype=dtype),
        LAYERS[name](dtype=dtype, **arguments),
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


def worker(rank, name, dtype, sizes, folder, port):
    torch.set_num_threads(1)
    # Not over a file: torch 2.1 sometimes waits for one that the first process to end has removed.
    address = f'tcp://127.0.0.1:{port}'
    distributed.init_process_group('gloo', address, rank=rank, world_size=len(sizes[0]))
    torch.save(run(name, dtype, sizes, rank), f'{folder}/{rank}.pt')
    distributed.barrier()
    # destroy_process_group may wait for Gloo's thread with the GIL held, which that needs to free a tensor.
    os._exit(0)


def single_value(rank, folder, port):
    distributed.init_process_group('gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    norm = NaiveCrossIterationBatchNorm2d(3, sync=True)
    out = norm(torch.full((1 - rank, 3, 1, 1), 5.0))  # nothing in process 1
    torch.save((out.detach(), norm.running_mean, norm.running_var), f'{folder}/{rank}.pt')
    distributed.barrier()
    os._exit(0)


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-10), (torch.float32, 1e-6)])
@pytest.mark.parametrize('name', LAYERS)
@pytest.mark.parametrize('processes', SIZES)
def test_processes_equal_one_process_on_the_joined_batch(name, processes, dtype, tolerance):
    sizes = SIZES[processes]
    with tempfile.TemporaryDirectory() as folder:
        arguments = (name, dtype, sizes, folder, free_port())
        multiprocessing.start_processes(worker, arguments, processes, start_method='forkserver')
        records = [torch.load(path) for path in sorted(Path(folder).glob('*.pt'))]
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


def test_a_single_value_in_all_processes_moves_the_mean_alone():
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.start_processes(single_value, (folder, free_port()), 2, start_method='forkserver')
        records = [torch.load(f'{folder}/{rank}.pt') for rank in range(2)]
    assert torch.equal(records[0][0], torch.zeros(1, 3, 1, 1))
    for _, running_mean, running_var in records:
        assert torch.equal(running_mean, torch.full((3,), 0.5))
        assert torch.equal(running_var, torch.ones(3))


def test_without_a_process_group_it_changes_nothing():
    plain, joint = (make_model('CBN', torch.float64, sync=sync) for sync in (False, True))
    for x, _ in batches(SIZES[2], torch.float64):
        assert torch.equal(plain(x), joint(x))
