"""The statistics of batch norms along a run of MMEngine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..analysis.statistics.recorder import StatisticsRecorder

FILE_NAME = 'statistics.npz'


@HOOKS.register_module()
class StatisticsHook(Hook):
    """Records what batch norms normalize by: :class:`.StatisticsRecorder` around the training of a run.

    The file ``statistics.npz`` lies beside the run's log. It is written after each epoch and with each
    checkpoint, and once more at the end. ``tools/plot_statistics.py`` draws it. Of several processes, the
    first one records what it sees. A resumed run has a file of its own, whose calls begin at 1.

    Where training fails, MMEngine calls no hook: what was recorded since the last writing is lost, and the
    hooks in the model go with the process, or when the same object starts another training.

    Args:
        layers: Patterns (``fnmatch``) for the names of batch norms in the model.
        interval: Record each n-th training forward of a layer. A head shared by FPN levels has several an
            iteration.
        limit: Most records of a layer: then every second one goes, and the interval doubles.

    Raises:
        ValueError: Before training, for what :class:`.StatisticsRecorder` does not take.
    """

    def __init__(self, layers: Sequence[str] = ('*',), interval: int = 1, limit: int = 2000) -> None:
        self.layers = layers
        self.interval = interval
        self.limit = limit
        self.recorder: StatisticsRecorder | None = None

    def before_train(self, runner: Runner) -> None:
        """Begin to record."""
        self._stop()
        if is_main_process():
            model = runner.model.module if is_model_wrapper(runner.model) else runner.model
            self.recorder = StatisticsRecorder(model, self.layers, self.interval, self.limit).__enter__()

    def after_train_epoch(self, runner: Runner) -> None:
        """Write what there is."""
        self._save(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Write what there is: a loop of iterations has no epochs."""
        self._save(runner)

    def after_train(self, runner: Runner) -> None:
        """Write everything, and take the hooks out of the model."""
        self._save(runner)
        self._stop()

    def _save(self, runner: Runner) -> None:
        if self.recorder is not None:
            self.recorder.save(Path(runner.log_dir) / FILE_NAME)

    def _stop(self) -> None:
        if self.recorder is not None:
            self.recorder.__exit__()
        self.recorder = None
