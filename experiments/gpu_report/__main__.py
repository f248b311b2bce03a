"""Test, profile and measure the layers on a GPU, with torch, numpy and pytest alone, within 8 minutes.

Writes OUT/gpu_report.md and OUT/gpu_report.json, first of all and again after each part.
"""

from __future__ import annotations

import json
import platform
import shlex
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from mmdet_cbn.whole_file import explain_file, whole_file

from ..common.machine import machine
from .page import standing, to_markdown
from .parts import Options, run_part
from .plan import PARTS

ROOT = Path(__file__).resolve().parents[2]


def parse_args() -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(
        'tools/gpu_report.sh',
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
        epilog='example:\n  bash tools/gpu_report.sh work_dirs/gpu_report',
    )
    parser.add_argument('out', type=Path, metavar='OUT', help='folder of the two files')
    parser.add_argument('--device', choices=('cuda', 'cpu'), default='cuda')
    parser.add_argument('--quick', action='store_true', help='tiny sizes: its form, no evidence')
    parser.add_argument('--commit', help='names the code where the copy has no git history')
    args = parser.parse_args()
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda: torch sees no GPU here (--device cpu --quick shows the form)')
    return args


def commit() -> str:
    """Name the code that runs."""
    git = ['git', '-C', str(ROOT)]
    try:
        name = subprocess.run([*git, 'rev-parse', 'HEAD'], capture_output=True, text=True, check=True).stdout
        changed = subprocess.run([*git, 'diff', '--quiet', 'HEAD'], capture_output=True).returncode
    except (OSError, subprocess.CalledProcessError):
        return 'unknown: no git history here, and no --commit'
    return name.strip() + (', with changes' if changed else '')


def begin(args: Namespace) -> dict[str, Any]:
    """Return the record of a report of which nothing has run."""
    return {
        'machine': machine(torch.device(args.device)),
        'python': platform.python_version(),
        'commit': args.commit or commit(),
        'command': shlex.join(['bash', 'tools/gpu_report.sh', *sys.argv[1:]]),
        'started': datetime.now(timezone.utc).isoformat(' ', 'seconds'),
        'device': args.device,
        'quick': args.quick,
        'parts': {part.name: {'status': 'not run'} for part in PARTS},
    }


def write(record: dict[str, Any], out: Path) -> None:
    """Write both files."""
    texts = {'gpu_report.json': json.dumps(record, indent=1) + '\n', 'gpu_report.md': to_markdown(record)}
    for name, text in texts.items():
        with whole_file(out / name) as partial:
            partial.write_text(text)


def main() -> None:
    """Run the parts, and write after each."""
    args = parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception it ends the part too
    options, record = Options(args.device, args.quick), begin(args)
    deadline = time.monotonic()
    try:
        for part in PARTS:
            record['parts'][part.name] = {'status': 'running'}
            write(record, args.out)
            deadline += part.seconds  # so the time that a part leaves is there for the next ones
            state = run_part(part, options, deadline - time.monotonic())
            record['parts'][part.name] = state
            print(f'{part.title}: {standing(state)}, {state["seconds"]:.0f} s', flush=True)
        write(record, args.out)
    except OSError as error:
        sys.exit(f'error: {explain_file(error)}')
    print(f'{args.out / "gpu_report.md"} and gpu_report.json are written')


if __name__ == '__main__':
    main()
