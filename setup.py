"""Installs ``mmdet_cbn``; ``tools/setup_env.sh`` installs it with everything around it."""

from pathlib import Path
from runpy import run_path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements(path: Path) -> list[str]:
    """Return the lines of a requirements file without its comments."""
    lines = (line.partition('#')[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


setup(
    name='mmdet-cbn',
    version=run_path(str(ROOT / 'mmdet_cbn/version.py'))['__version__'],
    description='Cross-iteration and moving-average batch normalization for MMDetection and PyTorch',
    license='Apache-2.0',
    python_requires='>=3.10,<3.13',
    packages=find_packages(include=['mmdet_cbn', 'mmdet_cbn.*']),
    install_requires=requirements(ROOT / 'requirements.txt'),
)
