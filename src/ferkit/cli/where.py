"""The options by which `train` and `tune` are told where their runs are done."""

from typing import Annotated

import typer

Engine = Annotated[
    str, typer.Option(help="local: one run after the other. ray: several at once, here or on a cluster.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        help="With ray: how many at once. [default: one per GPU, or where there are none per machine]",
        show_default=False,
    ),
]
Address = Annotated[str | None, typer.Option(help="Of a Ray cluster that is there: host:port, or auto.")]
