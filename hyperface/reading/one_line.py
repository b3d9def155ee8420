"""Words of a library or of a file of others, made fit for a line of ours."""

import re
import unicodedata

_LONGEST = 300
_LONGEST_READ = 10 * _LONGEST
_OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of letters that a terminal or a log obeys instead of showing them, and those that are none."""


def one_line(said: object) -> str:
    """Return the first line of a message that says something, cut where it is long, without credentials that somebody
    wrote into an address; an error without a text by its class."""
    lines = [line.strip() for line in str(said)[:_LONGEST_READ].splitlines() if line.strip()]
    text = shown(re.sub(r"//[^/@\s]*@", "//", lines[0])) if lines else type(said).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def shown(text: str) -> str:
    """Return a text with escapes for letters that a terminal obeys."""
    return "".join(ascii(letter)[1:-1] if unicodedata.category(letter) in _OBEYED else letter for letter in text)
