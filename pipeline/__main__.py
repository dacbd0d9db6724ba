"""`python -m pipeline`."""

import sys

from pipeline import startup, stopping

if __name__ == "__main__":
    stopping.at_once()
    startup.claim()
    from pipeline.cli import main

    code = main()
    startup.leave()
    sys.exit(code)
