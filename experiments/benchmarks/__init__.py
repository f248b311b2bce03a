"""Speed and memory of the norms beside BN.

Modules:
    measuring: times functions in turn, and finds their memory.
    norms: which norms are measured.
    layers: convolution + norm + ReLU.
    model: a detector.
    tables, plots: write and draw what was measured.
"""
