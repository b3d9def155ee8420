"""The plan of a dataset, the variation within an identity and the rendering of one shard. Knows nothing of Ray."""
