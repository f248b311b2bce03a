"""Files beside the checkpoints, one of each process, with what its norm layers remember."""

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, barrier, get_rank, get_world_size, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner, find_latest_checkpoint
from torch import nn

from ..checkpoints.files import CheckpointError, read_checkpoint, write_checkpoint
from ..layers.local_state import forget_window, load_local_state, local_state


def save_beside_checkpoints(runner: Runner, model: nn.Module) -> None:
    """Let every process write its file whenever ``CheckpointHook`` saves a checkpoint to resume from.

    ``Runner.save_checkpoint`` is what all processes call then, though only the main one saves. Ours come
    first, so that a run that is killed at any moment leaves no checkpoint without its files.

    Args:
        runner: Its ``save_checkpoint`` is replaced.
        model: Unwrapped.

    Raises:
        ValueError: Checkpoints go to a place that is no local folder.
    """
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and '://' in str(hook.out_dir):
            raise ValueError(
                'CrossIterationHook: save_window=True writes files into a local folder, but '
                f'CheckpointHook has out_dir={hook.out_dir!r}; leave one of the two out'
            )
    save = runner.save_checkpoint
    if not (isinstance(save, partial) and save.func is _save_with_norm_states):  # a second runner.train()
        runner.save_checkpoint = partial(_save_with_norm_states, save, model)


def load_beside_checkpoint(runner: Runner, model: nn.Module) -> None:
    """Load the file of this process after a resume; warn, in one message, of what starts anew and why.

    A window that one process lacks starts empty in all: with ``sync=True`` they must be the same.

    Args:
        runner: Has resumed a checkpoint.
        model: Unwrapped.
    """
    checkpoint = _resumed_checkpoint(runner)
    state, trouble = _read(checkpoint, runner.iter)
    rebuilt = load_local_state(model, state)
    if trouble:
        rebuilt = dict.fromkeys(rebuilt, trouble)
    of_process = all_gather_object(rebuilt)
    for name in set().union(*of_process):
        forget_window(model.get_submodule(name))
    if any(of_process):
        runner.logger.warning(
            f'CrossIterationHook: resumed from {checkpoint} without all that its norm layers remembered. '
            f'{_explain(of_process)} Their windows start empty and refill within window_size iterations; '
            'buffers without a file are those of the checkpoint, which process 0 wrote.'
        )


def _save_with_norm_states(
    save_checkpoint: Any,
    model: nn.Module,
    out_dir: str,
    filename: str,
    *args: Any,
    save_optimizer: bool = True,
    meta: dict[str, Any] | None = None,
    **kwargs: Any,
) -> None:
    if save_optimizer and meta:  # others, like that of the best model, are not to resume from
        checkpoint = Path(out_dir, filename)
        state = {'iteration': meta['iter'], 'norms': local_state(model)}
        write_checkpoint(state, _path(checkpoint, get_rank(), get_world_size()))
        barrier()
        if is_main_process():
            _remove_orphans(checkpoint)
    save_checkpoint(out_dir, filename, *args, save_optimizer=save_optimizer, meta=meta, **kwargs)


def _path(checkpoint: Path, rank: int | str, processes: int | str) -> Path:
    # No .pth: whoever lists a folder's checkpoints must not find these.
    return checkpoint.with_name(f'{checkpoint.stem}.norms_rank{rank}_of_{processes}.pt')


def _remove_orphans(current: Path) -> None:
    """Remove the files whose checkpoint is gone: ``max_keep_ckpts`` has removed it."""
    for path in current.parent.glob('*.norms_rank*_of_*.pt'):
        stem = path.name.rpartition('.norms_rank')[0]
        if stem != current.stem and not path.with_name(stem + current.suffix).exists():
            path.unlink()


def _resumed_checkpoint(runner: Runner) -> Path | None:
    """Find the checkpoint by the rule of ``Runner.load_or_resume``, which does not tell."""
    path = runner._load_from or find_latest_checkpoint(runner.work_dir)
    return Path(path) if path else None


def _read(checkpoint: Path | None, iteration: int) -> tuple[dict[str, Any], str | None]:
    """Return what this process finds of its norm layers, or why it finds nothing."""
    if checkpoint is None:
        return {}, 'which checkpoint it was cannot be told: name it by load_from and resume=True'
    processes = get_world_size()
    path = _path(checkpoint, get_rank(), processes)
    if not path.exists():
        files = path.parent.glob(_path(checkpoint, '*', '*').name)
        others = {file.stem.rpartition('_of_')[2] for file in files} - {str(processes)}
        if others:
            return {}, f'the number of processes was {" or ".join(sorted(others))} and is {processes}'
        return {}, f'there is no {path.name} beside it'
    try:
        saved = read_checkpoint(path)
    except CheckpointError as error:
        return {}, str(error)
    if saved['iteration'] != iteration:
        return {}, f'{path.name} is of iteration {saved["iteration"]}, the checkpoint of {iteration}'
    return saved['norms'], None


def _explain(of_process: list[dict[str, str]]) -> str:
    """Put the layers and processes that share a reason into one sentence."""
    layers: dict[str, dict[str, None]] = defaultdict(dict)
    processes: dict[str, list[int]] = defaultdict(list)
    for process, rebuilt in enumerate(of_process):
        for name, reason in rebuilt.items():
            layers[reason][name] = None
            if process not in processes[reason]:
                processes[reason].append(process)
    sentences = []
    for reason, names in layers.items():
        first, *more = names
        which = f'{first} and {len(more)} more' if more else first
        where = ', '.join(map(str, processes[reason]))
        sentences.append(f'{which} (process {where}): {reason}.')
    return ' '.join(sentences)
