"""Millions of pictures: a job that is cut into parts, done by many workers, and goes on where it was killed."""

from ferkit.batch.engines import ENGINES, Engine
from ferkit.batch.job import Job
from ferkit.batch.running import BatchSummary, Progress, run
from ferkit.batch.settings import Settings
from ferkit.batch.work import PartSummary, PartWorker

__all__ = ["ENGINES", "BatchSummary", "Engine", "Job", "PartSummary", "PartWorker", "Progress", "Settings", "run"]
