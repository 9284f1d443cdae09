"""``python -m landseer``."""

from landseer.cli import main

if __name__ == "__main__":
    main()
