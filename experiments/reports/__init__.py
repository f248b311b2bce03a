"""Runs of MMEngine, read from their work folders.

Modules:
    runs: reads the losses and the metrics that MMEngine logged.
    curves: draws them.
    configs: tells which config a run belongs to, and what was published for it.
    entries: tells where a run stands and what it measured.
    tables: writes the tables of several runs.
    detections: draws the predictions that ``tools/test.py --out`` wrote.
"""
