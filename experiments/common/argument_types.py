"""Types of command-line arguments, for argparse."""

from argparse import ArgumentTypeError


def positive_integer(text: str) -> int:
    """Read an integer of at least 1.

    Raises:
        ArgumentTypeError: It is none.
    """
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ArgumentTypeError(f'must be an integer >= 1, got {text!r}')
    return number
