"""The frame of every page: one self-contained HTML document that loads nothing and runs nothing."""

from hyperface.report import elements as e
from hyperface.report.style import STYLE

# Nothing but what the page carries may be loaded, whatever a record contains.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(name: str, header: str, body: str) -> str:
    """The whole page. `header` and `body` are HTML."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{e.text(name)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<header>
{header}
</header>
<main>
{body}
</main>
<footer>
<p>Written by HyperFace on Ray from the records of this run. The links lead to those records, beside this page.</p>
</footer>
</body>
</html>
"""
