"""The jobs that are submitted, one page each: parse, import late, call."""
