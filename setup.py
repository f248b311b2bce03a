"""For tools that ask for this file; pyproject.toml describes the package."""

from setuptools import setup

setup()
