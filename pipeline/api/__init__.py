"""The same from Python as from the command line; `pipeline/__init__.py` exports its functions."""
