"""Where something was measured."""

import platform
from pathlib import Path

import torch


def machine(device: torch.device) -> str:
    """Name the processor and the versions."""
    if device.type == 'cuda':
        name = torch.cuda.get_device_name(device)
    else:
        lines = Path('/proc/cpuinfo').read_text().splitlines() if Path('/proc/cpuinfo').exists() else []
        names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
        name = f'{names[0] if names else platform.processor()}, {torch.get_num_threads()} threads'
    return f'{name}, torch {torch.__version__}'
