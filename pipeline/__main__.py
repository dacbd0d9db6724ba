"""`python -m pipeline`."""

import sys

from pipeline import stopping

if __name__ == "__main__":
    stopping.at_once()
    from pipeline.cli import main

    sys.exit(main())
