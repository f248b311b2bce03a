"""Parts of a report, most of which do not come to their end."""

import os
import time

from experiments.gpu_report.parts import Keep, MissingError, Options


def too_slow(options: Options, keep: Keep) -> None:
    keep({'done': 1})
    keep({'done': 2})
    print('at work')
    time.sleep(600)


def dies(options: Options, keep: Keep) -> None:
    keep({'done': 1})
    os.abort()


def fails(options: Options, keep: Keep) -> None:
    keep({'done': 1})
    raise ValueError('what went wrong\nand more')


def misses(options: Options, keep: Keep) -> None:
    raise MissingError('a library is not installed')


def ends(options: Options, keep: Keep) -> str:
    keep({'device': options.device})
    return '1 of 2 failed'
