"""``python -m landseer``."""

from landseer.cli import main

main()
