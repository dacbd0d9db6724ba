"""`python -m pipeline`."""

from pipeline.process import first_signals

if __name__ == "__main__":
    first_signals.at_once()  # before whatever takes long to import
    import sys

    from pipeline.process import signals, startup

    signals.at_once()
    startup.claim()
    from pipeline.cli import main

    code = main()
    startup.leave()
    sys.exit(code)
