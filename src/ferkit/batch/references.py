"""References: where one picture of a job lies. Small, so that a plan of millions is a few files of them."""

from dataclasses import dataclass

# How the bytes of a picture are got.
FILE = "file"  # the file itself: `path`
RANGE = "range"  # `size` bytes from `offset` of the file: a member of a tar
STORED, DEFLATED = "zip-stored", "zip-deflated"  # `size` bytes behind the local header at `offset`: a member of a zip
ROW = "row"  # row `offset` of row group `size` of a Parquet file
SHARD = "shard"  # all pictures of a tar, compressed or far away, in one pass: the one reference that stands for many


@dataclass(frozen=True)
class Reference:
    """Where a picture lies.

    name: what the column `source` says. path: the file that holds it, as an absolute path or address. kind: of the
    above; offset and size mean what is said there. problem: why it cannot be read, where that was seen in the listing.
    """

    name: str
    path: str
    kind: str = FILE
    offset: int = 0
    size: int = 0
    problem: str | None = None

    @property
    def group(self) -> tuple[str, int] | None:
        """What is best read together with its neighbours; parts end between two groups where they can."""
        if self.kind == ROW:
            return self.path, self.size
        return (self.path, 0) if self.kind == SHARD else None
