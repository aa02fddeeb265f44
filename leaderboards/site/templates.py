"""What all pages share: the templates, the policy that forbids them every request, safe names and safe links."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from audit.reporting.figures import SERIES
from leaderboards.site.pareto import read

PICTURE = b"\x89PNG\r\n\x1a\n"


class Templates:
    """Pages by the name of their template. Text is escaped: what is markup says so here, and is none of a record's."""

    def __init__(self) -> None:
        self._jinja = Environment(
            loader=FileSystemLoader(Path(__file__).parent),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._jinja.filters["read"] = read
        script = self._jinja.get_template("board.js.jinja").render()
        self._script = Markup(script)
        self._policy = "; ".join(
            (
                "default-src 'none'",
                "style-src 'unsafe-inline'",
                "img-src data:",
                f"script-src 'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'",
                "base-uri 'none'",
                "form-action 'none'",
            )
        )

    def page(self, name: str, root: str, **context: Any) -> bytes:
        """``root``: the way from the page to the site's first folder, '' or '../'."""
        template = self._jinja.get_template(f"{name}.html.jinja")
        return template.render(root=root, policy=self._policy, script=self._script, series=SERIES, **context).encode()


def slug(text: str) -> str:
    """A file name for any text; two texts have two names."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:64]
    return plain if plain == text else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}".lstrip("-")


def web_link(link: str | None) -> str | None:
    """The link where it is one of http or https, else None."""
    if link is None or re.search(r"[\s<>\"'\\\x00-\x1f]", link):
        return None
    try:
        parts = urlsplit(link)
    except ValueError:
        return None
    return link if parts.scheme in ("http", "https") and parts.netloc else None


def picture(path: Path | None) -> str | None:
    """A data URI of a PNG; None where there is none, or where the file is something else."""
    if path is None:
        return None
    content = path.read_bytes()
    if not content.startswith(PICTURE):
        return None
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")
