"""`python -m pipeline`."""

from pipeline.process import first_signals

if __name__ == "__main__":
    first_signals.install()  # before whatever takes long to import
    from pipeline.process import streams

    streams.open_missing()
    import os
    import sys

    try:
        from pipeline.process import foreign, signals, startup

        signals.install()
        startup.claim()
        from pipeline.source.gdal.setup import configure

        if names := foreign.ignored():
            said = "set here, but ignored, for labels would depend on it"
            print(f"warning: {', '.join(names)}: {said}", file=sys.stderr)
        configure()
        from pipeline.cli import main
    except ImportError as error:
        hint = "unset PYTHONPATH" if "PYTHONPATH" in os.environ else "install the requirements again"
        sys.exit(f"error: cannot start: {' '.join(str(error).split())[:200]}; {hint}")

    code = main()
    startup.freeze_for_exit()
    sys.exit(code)
