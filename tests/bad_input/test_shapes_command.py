"""Generating the shapes data set with arguments that are wrong."""

from tests.helpers.machine import limit_files
from tests.helpers.wrong_input import Case, each_of, write

GENERATE = 'mmdet_cbn.data.shapes'

CASES = [
    Case('shapes-without-folder', ('required: out',), ()),
    Case('shapes-none', ('train must be at least 1', '0'), ('new', '--train', '0')),
    Case('shapes-too-small', ('size must be at least 32', '16'), ('new', '--size', '16')),
    Case('shapes-size-is-text', ('--size', "invalid int value: 'big'"), ('new', '--size', 'big')),
    Case(
        'shapes-in-other-folder',
        ('work', 'not a shapes data set', 'choose another'),
        ('work',),
        spoil=write('work/a', ''),
    ),
    Case(
        'shapes-with-other-numbers',
        ('shapes', '--train 4', 'delete it or choose another'),
        ('shapes', '--train', '5'),
    ),
    Case('shapes-below-a-file', ('config.py', 'File exists'), ('config.py/new',)),
    Case(
        'shapes-on-a-full-disk',
        ('mmdet_cbn.data.shapes', 'too large'),
        ('new', '--train', '1', '--val', '1', '--size', '1024'),
        prepare=limit_files,
    ),
]


@each_of(CASES)
def test_ends_with_one_message(case, check):
    check(GENERATE, case)
