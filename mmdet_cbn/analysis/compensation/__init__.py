"""How good CBN's correction of earlier statistics is, and what it rests on.

Modules:
    correction, correction_plot: its error over the lag, along a training run.
    gradient_ratios, gradient_ratios_plot: how statistics depend on earlier layers' weights (CBN, Figure 6).
    normalized_convolutions: records the convolutions that a batch norm follows.
"""
