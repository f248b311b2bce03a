"""What needs the training loop of MMEngine."""

from .cross_iteration_hook import CrossIterationHook

__all__ = ['CrossIterationHook']
