"""Files and words that others made, read with care: what is cut, damaged or made to harm is one clear error."""
