"""Building what runs a config."""

from collections.abc import Sized
from typing import Any

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from .errors import LaunchError
from .files import write_whole_files
from .processes import start_processes
from .restricted_loading import restrict_loading


def build_runner(cfg: Config, trust_checkpoint: bool = False) -> Runner:
    """Join the processes of a run and build its runner, which writes its files whole or not at all.

    Args:
        cfg: A config with ``launcher`` and ``work_dir`` set; :func:`start_processes` changes it.
        trust_checkpoint: Whether code that a checkpoint brings along may be executed.

    Raises:
        LaunchError: The launcher did not start this process.
    """
    start_processes(cfg)
    write_whole_files()
    restrict_loading(trusted=trust_checkpoint)
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def check_batches(runner: Runner) -> None:
    """Check that an epoch has an iteration; MMEngine would save a checkpoint after none, or wait for ever.

    Args:
        runner: Its data loaders are built, if they are not yet.

    Raises:
        LaunchError: A data loader is empty.
    """
    loops = {'train': runner.train_loop, 'val': runner.val_loop if runner.cfg.get('val_cfg') else None}
    for split, loop in loops.items():
        loader: Any = getattr(loop, 'dataloader', None)
        dataset = getattr(loader, 'dataset', None)
        if not isinstance(dataset, Sized):
            continue
        if not len(dataset):
            raise LaunchError(
                f'the data set of {split}_dataloader has no image left; check its annotations, indices and '
                'filter_cfg (min_size, filter_empty_gt)'
            )
        if not len(loader):
            size = loader.batch_size or loader.batch_sampler.batch_size
            raise LaunchError(
                f'{split}_dataloader has no batch for this process: {len(dataset)} images, batch_size={size} '
                'and drop_last=True; lower the batch size or leave drop_last out'
            )
