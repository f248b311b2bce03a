"""What was run to learn something about the layers. Not installed; run from the root of the checkout.

Packages and modules:
    digits: ``python -m experiments.digits``, all norms on a task that two CPU cores can train.
    detection: ``python -m experiments.detection``, all norms in a small detector.
    record_statistics: ``python -m experiments.record_statistics``, what the norms do in a run on digits.
    fraction_error: ``python -m experiments.fraction_error``, what ``derivative_fraction`` changes in a run.
    benchmarks: speed and memory of the norms beside BN, for ``tools/benchmark.py``.
    gpu_report: ``tools/gpu_report.sh``, the layers on a GPU, with torch alone, on one page.
    reports: runs of MMEngine beside the papers' numbers, for ``tools/report.py`` and the quickstart.
    common: what they share.
"""
