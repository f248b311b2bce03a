"""Building what runs a config."""

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

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
    if not trust_checkpoint:
        restrict_loading()
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
