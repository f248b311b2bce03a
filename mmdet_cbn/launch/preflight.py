"""All checks of a run, before anything is written."""

from mmengine.config import Config
from mmengine.registry import init_default_scope

from .checkpoints import check_checkpoints
from .data_content import check_content
from .data_files import check_data
from .errors import is_first_process
from .files import check_work_dir
from .model import check_model
from .processes import check_devices
from .sister_data import check_sister_data


def check_run(cfg: Config, training: bool, trust_checkpoint: bool = False) -> None:
    """Check all that can be checked without writing anything, in the first process of each machine.

    Args:
        cfg: A whole config with ``launcher`` and ``work_dir`` set.
        training: Whether to train, with validation; else to test.
        trust_checkpoint: Whether code that a checkpoint brings along may be executed.

    Raises:
        LaunchError: The run cannot do what the config says.
    """
    check_devices(cfg)
    if not is_first_process():
        return
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    splits = ['train', 'val'] if training else ['test']
    check_work_dir(cfg['work_dir'])
    check_data(cfg, splits)
    model = check_model(cfg, training)
    check_checkpoints(cfg, model, training, trust_checkpoint)
    check_content(cfg, splits, model)
    check_sister_data(cfg, splits, model)
