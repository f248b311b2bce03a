"""Errors that a program around the layers may want to tell apart."""


class PairingError(RuntimeError):
    """A cross-iteration layer trains without its convolution, or on something else than its output.

    Attributes:
        norm: Name of the layer in the model that was paired, None where it was not.
        conv: Name of the convolution, likewise.
    """

    def __init__(self, message: str, norm: str | None = None, conv: str | None = None) -> None:
        super().__init__(message)
        self.norm = norm
        self.conv = conv


class SingleValueError(ValueError):
    """There is one value per channel, which has no variance."""
