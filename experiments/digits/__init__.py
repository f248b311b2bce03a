"""The norms on a task that needs no download, each at its own best learning rate.

Modules:
    task: handwritten digits on a cluttered canvas.
    network: the convolutional network, and replicas of it that simulate workers.
    norms: which methods are compared, and the hyper-parameters of each.
    evaluation: running statistics of two momenta, population statistics, accuracy.
    trials: trains one network and returns what it measured.
    comparisons: what is compared, in which regimes.
    rates: chooses the learning rate of each method on a validation split.
    plan: which trials are left, and how long they take.
    runner: runs the trials that are missing, several at a time.
    outcomes: reads what is finished.
    tables, plots: write and draw what came out.
"""
