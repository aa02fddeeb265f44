"""A small part of Markdown as HTML: headings, paragraphs, fenced code, lists, `code`, **bold** and links.

Everything else is text, and all text is escaped: what is not understood is shown, never interpreted.
"""

import re
from collections.abc import Callable, Iterator, Sequence

from markupsafe import Markup, escape

FENCE = re.compile(r"^ *(```+|~~~+)")
HEADING = re.compile(r"^(#{1,6}) +(.+?)[ #]*$")
ITEM = re.compile(r"^ *(?:(?P<bullet>[-*+])|(?P<number>\d{1,6})[.)]) +(?P<text>.+)$")
INLINE = re.compile(r"`(?P<code>[^`]+)`|\*\*(?P<bold>[^*]+)\*\*|\[(?P<text>[^\]]+)\]\((?P<target>[^()\s]+)\)")
WEB = re.compile(r"^https?://[^\s<>\"'\\]+$")
ANCHOR = re.compile(r"^#[\w-]+$")


def html(text: str) -> Markup:
    """Raises nothing: any text is some Markdown."""
    return Markup("\n").join(_blocks(text.expandtabs(4).splitlines()))


def anchor(heading: str) -> str:
    """The id of a heading, as code hosts make it: lower case, words joined with '-'."""
    return re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-"))


def _blocks(lines: Sequence[str]) -> Iterator[Markup]:
    place, first = 0, True
    while place < len(lines):
        line = lines[place]
        if not line.strip():
            place += 1
        elif fence := FENCE.match(line):
            body, place = _until(lines, place + 1, _closes(fence[1]))
            place += 1
            indent = len(line) - len(line.lstrip())
            yield Markup("<pre><code>{}</code></pre>").format("\n".join(_dedented(part, indent) for part in body))
        elif heading := HEADING.match(line):
            # One title on a page: the first heading, where it is of the first level.
            level = len(heading[1]) if first else max(2, len(heading[1]))
            place += 1
            plain = re.sub(r"[`*]", "", heading[2])
            yield Markup('<h{0} id="{1}">{2}</h{0}>').format(level, anchor(plain), _inline(heading[2]))
        elif ITEM.match(line):
            block, place = _until(lines, place, _ends_a_list)
            yield _list(block)
        else:
            block, place = _until(lines, place, _ends_a_paragraph)
            yield Markup("<p>{}</p>").format(_inline(" ".join(part.strip() for part in block)))
        first = first and not line.strip()


def _until(lines: Sequence[str], start: int, ends: Callable[[str], bool]) -> tuple[list[str], int]:
    """Lines from ``start`` to the first one that ends the block, and the place of that one."""
    end = next((place for place in range(start, len(lines)) if ends(lines[place])), len(lines))
    return list(lines[start:end]), end


def _closes(fence: str) -> Callable[[str], bool]:
    return lambda line: line.strip() == fence


def _ends_a_list(line: str) -> bool:
    return not line.strip() or any(pattern.match(line) for pattern in (FENCE, HEADING))


def _ends_a_paragraph(line: str) -> bool:
    return not line.strip() or any(pattern.match(line) for pattern in (FENCE, HEADING, ITEM))


def _dedented(line: str, indent: int) -> str:
    return line[min(indent, len(line) - len(line.lstrip())) :]


def _list(lines: Sequence[str]) -> Markup:
    """One list of one level; a line that begins no item continues the one before it."""
    items: list[str] = []
    for line in lines:
        if item := ITEM.match(line):
            items.append(item["text"].strip())
        else:
            items[-1] += " " + line.strip()
    begin = ITEM.match(lines[0])
    made = Markup("").join(Markup("<li>{}</li>").format(_inline(item)) for item in items)
    if begin is not None and begin["number"]:
        return Markup('<ol start="{}">{}</ol>').format(int(begin["number"]), made)
    return Markup("<ul>{}</ul>").format(made)


def _inline(text: str) -> Markup:
    parts: list[Markup] = []
    position = 0
    for match in INLINE.finditer(text):
        parts.append(escape(text[position : match.start()]))
        position = match.end()
        if match["code"]:
            parts.append(Markup("<code>{}</code>").format(match["code"]))
        elif match["bold"]:
            parts.append(Markup("<strong>{}</strong>").format(_inline(match["bold"])))
        else:
            parts.append(_link(match["text"], match["target"]))
    return Markup("").join([*parts, escape(text[position:])])


def _link(text: str, target: str) -> Markup:
    """Web addresses and places of this page are links; a file of the repository is not on the site: it is named."""
    if WEB.match(target):
        return Markup('<a href="{}" rel="noopener noreferrer nofollow">{}</a>').format(target, _inline(text))
    if ANCHOR.match(target):
        return Markup('<a href="{}">{}</a>').format(target, _inline(text))
    return Markup("{} (<code>{}</code>)").format(_inline(text), target)
