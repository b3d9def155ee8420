"""How far a stage is: in numbers, as lines of a log, as curves."""
