"""What tools/train.py and tools/test.py share: the command line, checks beforehand, the processes."""

from .command_line import add_common_arguments, load_config
from .errors import LaunchError, leave
from .preflight import check_data, check_devices
from .processes import start_processes

__all__ = [
    'LaunchError',
    'add_common_arguments',
    'check_data',
    'check_devices',
    'leave',
    'load_config',
    'start_processes',
]
