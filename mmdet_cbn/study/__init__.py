"""A small comparison of normalization layers, on a task that needs no download.

Modules:
    digits: the task, handwritten digits on a cluttered canvas.
    network: the convolutional network.
    methods: the layers that compete, and the hyper-parameters of each.
    trials: trains one network and returns what it measured.
    comparisons: which trials the study consists of, and what they are compared over.
    results: keeps each trial in a file, and reads it back.
    runner: runs the trials that are missing, several at a time.
    summary: means, spreads and tables.
    plots: draws them.
"""
