"""Turn templates into pages; every text that is put into them is escaped."""

from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"

_environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_environment.globals["script"] = Markup((TEMPLATES / "tooltip.js").read_text(encoding="utf-8"))
_environment.globals["style"] = Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))


def render(template: str, **content: Any) -> str:
    """Fill in a template of this folder."""
    return _environment.get_template(template).render(**content)


def inline(svg: str, *, prefix: str, alt: str) -> Markup:
    """Prepare an SVG of our own for a page: no XML header, ids made unique by a prefix, a text to be read aloud.

    A figure whose points can be visited gets the role of a group, since a reader can't enter an image.
    """
    body = svg[svg.index("<svg") :]
    for start in ('id="', "url(#", 'href="#'):
        body = body.replace(start, f"{start}{prefix}-")
    role = "group" if 'class="marks"' in body else "img"
    return Markup(body.replace("<svg", Markup('<svg role="{}" aria-label="{}"').format(role, alt), 1))
