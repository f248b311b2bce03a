"""The version of the package: one line that pyproject.toml reads without importing torch."""

__version__ = '0.1.0'
