"""Models behind the two seams of `protocols.py`."""
