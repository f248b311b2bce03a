"""Downloading released checkpoints in ways that fail."""

from tests.helpers.wrong_input import Case, each_of

DOWNLOAD = 'tools/download_checkpoint.py'
NO_NETWORK = {f'{scheme}_proxy': 'http://127.0.0.1:9' for scheme in ('http', 'https')}

CASES = [
    Case('download-nothing', ('give the NAME', '--list'), ()),
    Case('download-unknown', ("invalid choice: 'cbn'", 'mask-rcnn_r50_fpn_4conv1fc_cbn'), ('cbn',)),
    Case(
        'download-with-browser-only',
        ('R50-wc', 'dropbox', 'browser', 'checkpoints/R50-wc.pth'),
        ('R50-wc',),
    ),
    Case(
        'download-without-network',
        ('no network', 'browser'),
        ('mask-rcnn_r50_fpn_4conv1fc_cbn', '--dest', '.'),
        environment=NO_NETWORK,
    ),
    Case(
        'download-below-a-file',
        ('config.py', 'a file is in the place of a folder', 'another path'),
        ('mask-rcnn_r50_fpn_4conv1fc_cbn', '--dest', 'config.py'),
        environment=NO_NETWORK,
    ),
]


@each_of(CASES)
def test_ends_with_one_message(case, check):
    check(DOWNLOAD, case)
