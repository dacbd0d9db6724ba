"""The QGIS plugin and Processing provider, which run ``python -m pipeline`` and load what it wrote.

Nothing is here yet.
"""
