"""What layers normalize by along a run (MABN, Figures 2 to 4).

Modules:
    recorder: records the statistics of a model's norms.
    file: keeps them, one file a run.
    summary: tells in numbers how steady they are, and how far from a reference.
    plot: draws them.
"""
