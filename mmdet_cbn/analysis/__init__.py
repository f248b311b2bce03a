"""What runs left behind, what layers cost and what they do, as tables and pictures.

Modules:
    runs: reads the losses and the metrics that MMEngine logged.
    curves: draws them.
    experiments: tells which config a run belongs to, and what the paper reports for it.
    entries: tells where a run stands and what it measured.
    report: writes the tables of several runs.
    detections: draws the predictions that ``tools/test.py --out`` wrote.
    measuring: times functions in turn, and finds the peak of their memory.
    layer_benchmark, model_benchmark, benchmark_tables: the norms beside BN.
    fraction_error: what ``derivative_fraction`` changes along a run.
    normalized_convolutions: records the convolutions that a batch norm follows.
    gradient_ratios, gradient_ratios_plot: how statistics depend on earlier layers' weights.
    detection_study, detection_study_runs, detection_study_tables: the norms in a small detector, over batch
        sizes and seeds.
    correction, correction_plot: how good CBN's corrected statistics are.
    statistics_recorder, statistics_file, statistics_plot: what layers normalize by along a run.
"""
