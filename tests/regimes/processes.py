"""Trains the small detector in two and in three processes. ``test_processes.py`` runs it as a program.

Forks of a program that has imported everything, and computed nothing yet, start at once and safely.
"""

import multiprocessing
import sys
from pathlib import Path

import torch
from small_detector import METHODS, STEPS, SmallDetector, images, remembered, train
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

# MMEngine's setting with two processes, torch's default with three.
BROADCAST_BUFFERS = {2: False, 3: True}


def batch(step: int, rank: int) -> Tensor:
    """Return images whose number and size differ from process to process."""
    number, size = ((2, (40, 48)), (1, (56, 40)), (3, (40, 64)))[rank]
    return images(step, number, size, seed=rank).double()


def train_distributed(rank: int, world_size: int, folder: Path) -> None:
    """Train with one method after the other; write to ``folder`` what this process is left with."""
    torch.set_num_threads(1)
    store = distributed.FileStore(str(folder / f'store_{world_size}'), world_size)
    distributed.init_process_group('gloo', store=store, rank=rank, world_size=world_size)
    results = {}
    for method in METHODS:
        model = SmallDetector(method).double()
        wrapper = DistributedDataParallel(model, broadcast_buffers=BROADCAST_BUFFERS[world_size])
        losses = train(wrapper, batches=(batch(step, rank) for step in range(STEPS)))
        results[method] = {'losses': torch.stack(losses), **remembered(model)}
    torch.save(results, folder / f'{rank}_of_{world_size}.pth')
    distributed.destroy_process_group()


def main(folder: Path) -> None:
    context = multiprocessing.get_context('fork')
    for world_size in BROADCAST_BUFFERS:
        processes = [
            context.Process(target=train_distributed, args=(rank, world_size, folder))
            for rank in range(world_size)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            sys.exit(1)


if __name__ == '__main__':
    main(Path(sys.argv[1]))
