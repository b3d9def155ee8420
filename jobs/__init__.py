"""What you submit: one page per job. Parse, import late, call."""
