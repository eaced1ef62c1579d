"""PyArrow, which reads and writes Parquet and is not part of the base install: `from ferkit._support.arrow import pa, pq`."""

from ferkit.errors import MissingDependencyError

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as problem:
    raise MissingDependencyError("Parquet needs PyArrow: pip install 'ferkit[parquet]'.") from problem

__all__ = ["pa", "pq"]
