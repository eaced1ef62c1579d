"""`python -m ferkit`: the `ferkit` command, for where the script is not on the path."""

from ferkit.cli import main

main()
