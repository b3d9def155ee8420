"""The frame of every page: one self-contained HTML document that loads nothing and runs nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

from hyperface.report import elements as e
from hyperface.report.style import STYLE
from hyperface.run.names import CONFIG

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


def provenance(found: Mapping[str, Any], more: Sequence[tuple[str, str]], records: str, config_yaml: str) -> str:
    """The last section: what made the run, and its configuration. `more` rows and `records` are HTML."""
    rows = [(f"<code>{e.text(name)}</code>", f"<code>{e.text(value)}</code>") for name, value in e.flat(found)]
    return f"""<section>
<h2>Provenance</h2>
{e.table("What made this run", records, ["What", "Value"], [*rows, *more], [])}
<details><summary>Configuration, {e.text(CONFIG)}</summary>
<pre tabindex="0">{e.text(config_yaml)}</pre>
</details>
</section>"""
