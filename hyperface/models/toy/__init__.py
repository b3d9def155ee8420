"""The toy world: procedural faces, networks trained on them, and generators that draw them. No downloads."""
