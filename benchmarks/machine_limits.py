"""What this machine can do at most: products of matrices and traffic with memory, on all cores that the process may use.

The other figures of a profile stand against these, measured in the same run. `python benchmarks/machine_limits.py`
prints them alone.
"""

import json
import os
import platform
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ferkit._support.parallel import usable_cores

_MATRIX = 2048
# Far more than caches hold.
_TRIAD_BYTES = 192 << 20


@dataclass(frozen=True)
class Limits:
    """flops: of float32 and of bfloat16 products, operations per second. bandwidth: bytes per second."""

    flops: dict[str, float]
    bandwidth: float

    def least(self, operations: float, moved: float, precision: str = "float32") -> tuple[float, float]:
        """Seconds that arithmetic and that memory alone would take."""
        return operations / self.flops[precision], moved / self.bandwidth

    def lines(self) -> list[str]:
        rates = [f"{name} matrix products {rate / 1e9:,.0f} GFLOP/s" for name, rate in self.flops.items()]
        return [
            *rates,
            f"memory (add: two arrays read, one written) {self.bandwidth / 1e9:,.1f} GB/s",
            *(
                f"arithmetic and memory balance at {rate / self.bandwidth:,.0f} operations a byte in {name}"
                for name, rate in self.flops.items()
            ),
        ]


class Meter:
    """The best that was seen of each limit; `measure` it now and then between what is profiled."""

    def __init__(self) -> None:
        self._flops: dict[str, float] = {}
        self._bandwidth = 0.0
        self._products = {name: _product(name) for name in ("float32", "bfloat16")}
        self._add = _add()

    def measure(self) -> None:
        for name, product in self._products.items():
            self._flops[name] = max(self._flops.get(name, 0.0), 2 * _MATRIX**3 / _fastest(product))
        self._bandwidth = max(self._bandwidth, _TRIAD_BYTES / _fastest(self._add))

    @property
    def limits(self) -> Limits:
        return Limits(dict(self._flops), self._bandwidth)


def _fastest(work: Callable[[], object], times: int = 5) -> float:
    best = float("inf")
    for _ in range(times):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


def _product(precision: str) -> Callable[[], object]:
    """A product of two square matrices by oneDNN, through TensorFlow."""
    import tensorflow as tf

    left, right = (tf.cast(tf.random.normal((_MATRIX, _MATRIX), seed=seed), precision) for seed in (0, 1))
    return lambda: tf.matmul(left, right)[0, 0].numpy()


def _add() -> Callable[[], object]:
    """STREAM's "add" (McCalpin 1995), a slice for each core; NumPy lets go of the interpreter meanwhile."""
    cores = usable_cores()
    length = _TRIAD_BYTES // 24 // cores
    slices = [tuple(np.ones(length) for _ in range(3)) for _ in range(cores)]
    pool = ThreadPoolExecutor(cores)
    return lambda: list(pool.map(lambda one: np.add(one[0], one[1], out=one[2]), slices))


def processor_name() -> str:
    """What the processor calls itself, as "AMD EPYC"."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file() and (found := re.search(r"model name\s*: (.+)", cpuinfo.read_text(encoding="utf-8"))):
        return found[1].strip()
    return platform.processor() or platform.machine()


def about_machine() -> str:
    """The machine in a line, without its name."""
    load = f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{usable_cores()} cores of {processor_name()}{load}"


if __name__ == "__main__":
    meter = Meter()
    meter.measure()
    print(json.dumps({**meter.limits.flops, "bandwidth": meter.limits.bandwidth}))
