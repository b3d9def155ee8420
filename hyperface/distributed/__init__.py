"""Work of several ranks: their messages, the division of rows, and checkpoints that any number of them can read."""
