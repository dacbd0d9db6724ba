"""`python -m pipeline`."""

from pipeline import early

if __name__ == "__main__":
    early.at_once()  # before whatever takes long to import
    import sys

    from pipeline import startup, stopping

    stopping.at_once()
    startup.claim()
    from pipeline.cli import main

    code = main()
    startup.leave()
    sys.exit(code)
