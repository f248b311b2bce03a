"""tools/train.py and tools/test.py in this process, which has imported and read everything already."""

import gc
import runpy
import sys
from itertools import count
from pathlib import Path

import pytest
from mmengine.config import config
from mmengine.runner import Runner
from yapf.yapflib import yapf_api

ROOT = Path(__file__).parents[2]
_numbers = count()


def run(program: str, *arguments: object, options: list[str]) -> Runner:
    """Run a program of tools/ with ``--cfg-options`` and return the runner that it used."""
    runners = []
    build = Runner.from_cfg

    def from_cfg(cfg: object) -> Runner:
        runners.append(build(cfg))
        return runners[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner, 'from_cfg', from_cfg)  # to get hold of it
        patch.chdir(ROOT)
        # MMSegmentation's visualizers share one name: the next run would write into the folder of the last.
        name = f'visualizer.name=run{next(_numbers)}'
        patch.setattr(sys, 'argv', [program, *map(str, arguments), '--cfg-options', *options, name])
        # Half of the time would be yapf, which lays out the config four times, and the collections of garbage
        # that MMEngine asks for, among all that was ever imported.
        for module in (config, yapf_api):  # of the classic line, of the default one
            patch.setattr(module, 'FormatCode', lambda code, **_: (code, True), raising=False)
        gc.freeze()
        runpy.run_path(f'tools/{program}', run_name='__main__')
        gc.unfreeze()
    (runner,) = runners
    return runner
