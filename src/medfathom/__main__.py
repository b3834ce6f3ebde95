"""`python -m medfathom`."""

from medfathom.cli import main

main()
