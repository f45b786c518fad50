"""`python -m normlab` is the command `normlab`."""

from normlab.cli import main

main()
