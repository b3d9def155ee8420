"""Work of several ranks: how they speak, how rows are divided, and checkpoints that any number of them can read."""
