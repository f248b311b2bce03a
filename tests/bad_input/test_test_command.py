"""Evaluating checkpoints that are wrong."""

import torch

from tests.helpers.payload import save_payload
from tests.helpers.wrong_input import Case, each_of, half_fitting, resnet_weights, save, saved_and_cut, write

TEST = 'tools/test.py'
SOME = ('config.py', 'some.pth')

CASES = [
    Case('no-checkpoint', ('no checkpoint some.pth', 'work_dirs'), SOME),
    Case(
        'checkpoint-is-a-page',
        ('some.pth is a web page', 'again'),
        SOME,
        spoil=write('some.pth', '<!DOCTYPE html><html>'),
    ),
    Case('checkpoint-is-empty', ('some.pth is empty', 'again'), SOME, spoil=write('some.pth', '')),
    Case(
        'checkpoint-is-text',
        ('some.pth is not a whole checkpoint', 'again'),
        SOME,
        spoil=write('some.pth', 'hello ' * 99),
    ),
    Case('checkpoint-is-cut', ('some.pth is not a whole checkpoint', 'again'), SOME, spoil=saved_and_cut),
    Case(
        'checkpoint-is-a-tensor',
        ('some.pth holds a Tensor', 'dictionary'),
        SOME,
        spoil=save(torch.zeros(3)),
    ),
    Case('checkpoint-with-code', ('pathlib.Path', 'trust', '--trust-checkpoint'), SOME, spoil=save_payload),
    Case(
        'checkpoint-with-code-checked',
        ('pathlib.Path', '--trust-checkpoint'),
        (*SOME, '--check'),
        spoil=save_payload,
    ),
    Case(
        'checkpoint-of-another-model',
        ('some.pth has none of', 'another architecture', 'the config'),
        SOME,
        spoil=resnet_weights,
    ),
    Case(
        'checkpoint-fits-in-part',
        ('some.pth does not fit', 'are missing', '1 have another shape', 'backbone.bn1.weight', 'the config'),
        SOME,
        spoil=half_fitting,
    ),
    Case(
        'predictions-to-no-pickle',
        ('--out some.json', '.pkl'),
        (*SOME, '--out', 'some.json'),
        spoil=half_fitting,
    ),
    Case(
        'predictions-into-a-folder',
        ('--out some.pkl is a folder', 'name of a file'),
        (*SOME, '--out', 'some.pkl'),
        spoil=lambda folder: (half_fitting(folder), (folder / 'some.pkl').mkdir()),
    ),
    Case(
        'pictures-without-hook',
        ('--show-dir', 'default_hooks.visualization'),
        (*SOME, '--show-dir', 'x'),
        'default_hooks = dict(visualization=None)\n',
        half_fitting,
    ),
]


@each_of(CASES)
def test_ends_with_one_message(case, check):
    check(TEST, case)
