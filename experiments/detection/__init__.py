"""The norms in a small detector, over batch sizes and seeds.

Modules:
    plan: which detectors are trained, and how each config differs from the quickstart's.
    runs: trains them one at a time, and keeps what each reached in a file.
    tables: means, spreads and tables.
"""
