"""Face verification: a network on sets of pairs and on IJB, by the published protocols."""
