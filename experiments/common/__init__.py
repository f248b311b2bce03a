"""What the experiments share.

Modules:
    methods: the norms that compete.
    standardized_conv: the convolution of one of them.
    results: keeps what each run reached in a file, and reads it back.
    seeds: mean and spread of what several seeds reached.
    differences: which differences between methods the seeds bear out.
    tables: writes rows as Markdown, CSV, or text for the screen.
    argument_types: types of command-line arguments.
    machine: names where something was measured.
    processes: processes that work for another one.
"""
