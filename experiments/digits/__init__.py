"""The norms on a task that needs no download, over batch sizes, window sizes and burn-in.

Modules:
    task: handwritten digits on a cluttered canvas.
    network: the convolutional network.
    norms: which methods are compared, and the hyper-parameters of each.
    trials: trains one network and returns what it measured.
    comparisons: which trials the study consists of, and what they are compared over.
    runner: runs the trials that are missing, several at a time.
    tables, plots: write and draw what came out.
"""
