"""The Ray layer: the only home of ray. One file per stage; the mathematics lives in hyperface."""
