"""What a run left behind, as tables and pictures.

Modules:
    runs: reads the losses and the metrics that MMEngine logged.
    curves: draws them.
    detections: draws the predictions that ``tools/test.py --out`` wrote.
"""
