"""What runs left behind, what layers cost and what they do, as tables and pictures.

Packages:
    reports: curves, metrics and detections of runs, and their tables in the papers' layout.
    benchmarks: speed and memory of the norms beside BN.
    statistics: what layers normalize by along a run.
    compensation: how good CBN's correction of earlier statistics is, and what it rests on.
"""
