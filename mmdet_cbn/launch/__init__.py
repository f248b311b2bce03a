"""What tools/train.py and tools/test.py share: the command line, checks beforehand, the processes."""

from .command_line import add_common_arguments, load_config
from .errors import LaunchError, leave, one_message
from .files import write_whole_files
from .preflight import check_data, check_devices, check_run
from .processes import leave_processes, start_processes

__all__ = [
    'LaunchError',
    'add_common_arguments',
    'check_data',
    'check_devices',
    'check_run',
    'leave',
    'leave_processes',
    'load_config',
    'one_message',
    'start_processes',
    'write_whole_files',
]
