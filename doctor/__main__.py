"""Run the command line as ``python -m doctor``."""

from doctor.cli.main import main

main()
