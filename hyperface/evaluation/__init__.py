"""Measurement of embeddings: what separates identities and what holds them together."""
