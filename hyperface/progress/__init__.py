"""Progress of a stage: in numbers, as lines of a log, as curves."""
