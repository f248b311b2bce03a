"""Speed and memory of the norms beside BN.

Modules:
    measuring: times functions in turn, and finds their memory.
    operations: counts what a step asks torch for.
    norms: which norms are measured.
    layers: convolution + norm + ReLU.
    growth: the same over window size, channels and images.
    model: a detector.
    tables, plots: write and draw what was measured.
"""
