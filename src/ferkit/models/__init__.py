"""Network architectures: one function each, plain `keras.Model` out.

Adding one is a file with one function under `@architecture`; the command line, the docs and the contract tests
(`tests/test_models.py`) pick it up from `ARCHITECTURES`.
"""

from ferkit.models.registry import ARCHITECTURES, architecture
from ferkit.models.residual import compact, resnet
from ferkit.models.tutorial import tutorial

__all__ = ["ARCHITECTURES", "architecture", "compact", "resnet", "tutorial"]
