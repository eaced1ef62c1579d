"""The targets, by name: each is a module with `look`, `seeds` and what `Target` asks for besides."""

import importlib
from typing import Protocol, cast

# Whose Python code tells the fuzzer where it has been. This has to be known before anything of it is imported.
PACKAGES: dict[str, tuple[str, ...]] = {
    "pictures": ("ferkit", "PIL"),
    "csv": ("ferkit", "csv", "gzip", "bz2", "lzma"),
    "archives": ("ferkit", "tarfile", "zipfile", "gzip"),
    "parquet": ("ferkit", "pyarrow"),
    "cards": ("ferkit", "json"),
    "models": ("ferkit", "zipfile", "json"),
    "weights": ("ferkit", "json", "pickletools"),
    "rest": ("ferkit", "starlette", "python_multipart", "json"),
    "stream": ("ferkit", "starlette", "json"),
}


class Target(Protocol):
    """What a module of this package offers.

    WORDS: what is worth putting into an input. LONGEST: bytes of an input.
    """

    WORDS: tuple[bytes, ...]
    LONGEST: int

    def seeds(self) -> dict[str, bytes]:
        """Small inputs, most of them valid, made by code."""

    def look(self, data: bytes) -> None:
        """Give the input to ferkit; raises whatever ferkit must not raise."""


def target(name: str) -> Target:
    return cast(Target, importlib.import_module(f"fuzz.targets.{name}"))
