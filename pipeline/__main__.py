"""`python -m pipeline`."""

from pipeline.process import first_signals

if __name__ == "__main__":
    first_signals.install()  # before whatever takes long to import
    import sys

    from pipeline.process import signals, startup

    signals.install()
    startup.claim()
    from pipeline.source.gdal.setup import configure

    configure()
    from pipeline.cli import main

    code = main()
    startup.freeze_for_exit()
    sys.exit(code)
