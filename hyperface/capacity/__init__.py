"""The plan of a run, before it is paid for: plain arithmetic on a configuration and a table of measured rates."""
