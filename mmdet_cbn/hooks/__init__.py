"""What needs the training loop of MMEngine."""

from .cross_iteration_hook import CrossIterationHook
from .statistics_hook import StatisticsHook

__all__ = ['CrossIterationHook', 'StatisticsHook']
