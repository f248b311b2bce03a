"""What the experiments share.

Modules:
    methods: the norms that compete.
    results: keeps what each run reached in a file, and reads it back.
    seeds: mean and spread of what several seeds reached.
    tables: writes rows as Markdown, CSV, or text for the screen.
    argument_types: types of command-line arguments.
    machine: names where something was measured.
    processes: processes that work for another one.
"""
