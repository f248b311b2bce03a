"""One command for the day a GPU is there: ``tools/gpu_report.sh``. It needs torch, numpy and pytest alone.

Modules:
    parts: runs a part in a process of its own, up to a time limit.
    plan: which parts there are.
    layer_tests: the tests of the layers that need a GPU.
    step_profile: what one training step launches, and when.
    layer_benchmark: the layers in all types, memory formats, eager and in CUDA graphs.
    digits_column: the digits study at batch size 2.
    page: the record of all parts as a page in Markdown.
"""
