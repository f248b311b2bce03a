"""The version of the package: one line that setup.py reads without importing torch."""

__version__ = '0.1.0'
