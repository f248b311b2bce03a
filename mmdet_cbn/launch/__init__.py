"""What tools/train.py and tools/test.py share: the command line, checks beforehand, the processes."""

from .command_line import add_common_arguments, load_config
from .data_files import check_data
from .errors import LaunchError, one_message
from .preflight import check_run
from .processes import leave_processes
from .runner import build_runner, check_batches
from .trained import load_trained_model

__all__ = [
    'LaunchError',
    'add_common_arguments',
    'build_runner',
    'check_batches',
    'check_data',
    'check_run',
    'leave_processes',
    'load_config',
    'load_trained_model',
    'one_message',
]
