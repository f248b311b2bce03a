"""The parts of the report, in their order, with the seconds that each may take."""

from . import digits_column, layer_benchmark, layer_tests, step_profile
from .parts import Part

PARTS = (
    Part('layer_tests', 'Tests of the layers', 90, layer_tests.run),
    Part('step_profile', 'A training step in a profile', 40, step_profile.run),
    Part('layer_benchmark', 'Time of a training step beside BN', 210, layer_benchmark.run),
    Part('digits_column', 'The digits study at batch size 2', 110, digits_column.run),
)
