"""`python -m netadapt` is the `netadapt` command."""

from netadapt.cli import main

main()
