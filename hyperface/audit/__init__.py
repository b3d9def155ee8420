"""The audit of a dataset: how many identities there are, whether faces copy real ones, and their attributes."""
