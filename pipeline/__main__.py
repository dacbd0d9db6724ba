"""`python -m pipeline`."""

from pipeline import early

if __name__ == "__main__":
    early.at_once()  # before whatever takes long to import
    import sys

    from pipeline import stopping

    stopping.at_once()
    from pipeline.cli import main

    sys.exit(main())
