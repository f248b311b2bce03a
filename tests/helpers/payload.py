"""Checkpoints that bring code along."""

from pathlib import Path

import torch

EXECUTED = Path('executed')


class Payload:
    """Leaves a file in the current folder when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (EXECUTED,)


def save_payload(folder: Path, name: str = 'some.pth', **others: object) -> None:
    torch.save({'meta': Payload(), **others}, folder / name)
