"""HyperFace on Ray: the library. Mathematics, models, formats and measurement; never imports ray."""

__version__ = "0.1.0"
