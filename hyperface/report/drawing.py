"""Pages are drawn by Jinja2, whose only home this is: all markup is in `templates/`, where every value is escaped."""

import functools
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from hyperface.dataset.export.measured import NETWORKS
from hyperface.report.formats import FILTERS, NONE
from hyperface.run import names


@functools.cache
def _environment() -> Environment:
    options: Any = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    environment = Environment(autoescape=True, loader=PackageLoader("hyperface.report"), **options)
    environment.filters |= {known.__name__: known for known in FILTERS}
    environment.globals |= {"names": names, "NETWORKS": NETWORKS, "NONE": NONE}
    return environment


def draw(template: str, directory: str, view: Any) -> str:
    """A template becomes a whole page about a directory.

    Args:
        view: a dataclass, whose fields are the names that the template knows.
    """
    name = directory.rstrip("/").rsplit("/", 1)[-1]
    return _environment().get_template(template).render(name=name, directory=directory, **vars(view))
