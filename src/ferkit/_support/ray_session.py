"""The one door to Ray: quiet, without a word to anybody outside, and shut again if it was opened here."""

import importlib
import importlib.util
import logging
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from ferkit._support.parallel import usable_cores
from ferkit.errors import ClusterError, MissingDependencyError, UsageError

# What a Ray of our own keeps in shared memory, in bytes. Results are small, and what does not fit goes to the disk.
USUAL_STORE = 256 * 2**20
# Ray waits for minutes for a cluster that is not there.
_PATIENCE_S = 10
# It gives its own processes half a minute to come up, which a busy machine may not.
_ATTEMPTS = 4


def load_ray() -> ModuleType:
    """Import Ray. Raises `MissingDependencyError`, which names the extra to install."""
    if importlib.util.find_spec("ray") is None:
        raise MissingDependencyError(
            "This needs Ray, which the base install leaves out. Install it with: pip install 'ferkit[ray]'."
        )
    # Read on import. Ray reports what it is used for to its makers unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    return importlib.import_module("ray")


@contextmanager
def ray_session(
    address: str | None = None, *, workers: int | None = None, store: int = USUAL_STORE
) -> Iterator[ModuleType]:
    """Ray, connected: to the cluster at `address`, else that of `RAY_ADDRESS`, else one on this machine alone.

    Ray's own words go nowhere but into its log files. A Ray that was started here ends with the block, with everything
    that it still does; a cluster that was there stays, and so does the connection that the caller had already.

    Args:
        address: "host:port" of the head node, or "auto" for a cluster that this machine belongs to.
        workers: how many run at once, where Ray is started here: it then counts on at least so many cores.
        store: bytes of shared memory, where Ray is started here.

    Raises:
        MissingDependencyError: no Ray.
        UsageError: no such form of address.
        ClusterError: nothing answers there, or Ray does not start.
    """
    ray = load_ray()
    if ray.is_initialized():
        yield ray
        return
    wanted = address or os.environ.get("RAY_ADDRESS") or "local"
    with _silent():
        _connect(ray, wanted, workers, store)
        try:
            yield ray
        finally:
            ray.shutdown()


@contextmanager
def _silent() -> Iterator[None]:
    """Ray prints on standard output that a worker died, which is ours to say, and has no option for it."""
    worker: Any = importlib.import_module("ray._private.worker")
    before = getattr(worker, "_worker_logs_enabled", None)
    worker._worker_logs_enabled = False
    try:
        yield
    finally:
        worker._worker_logs_enabled = before


def _connect(ray: ModuleType, address: str, workers: int | None, store: int) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL, "configure_logging": True}
    if address == "local":
        cores = max(workers or 1, usable_cores())
        options |= {"include_dashboard": False, "num_cpus": cores, "object_store_memory": store}
        # Ray would have its workers give way to everything else on the machine; those of the local engine do not.
        os.environ.setdefault("RAY_worker_niceness", "0")
    else:
        _check_reachable(address)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what its next version will do otherwise
                ray.init(address=address, **options)
            return
        except Exception as problem:  # of many kinds, down to the plainest
            ray.shutdown()
            if "timed out during startup" in str(problem) and attempt < _ATTEMPTS:
                continue
            first = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
            verb = "started" if address == "local" else f"reached at {address}"
            raise ClusterError(f"Ray cannot be {verb}: {first}") from problem


def _check_reachable(address: str) -> None:
    """Say at once what Ray would say after minutes."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"An address of Ray is host:port, or auto. Received: {address!r}.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE_S).close()
    except (OSError, OverflowError) as problem:
        raise ClusterError(
            f"No Ray cluster found at {address} ({problem}). `ray start --head` on a machine starts a cluster and says its address."
        ) from problem
