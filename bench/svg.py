"""The little SVG that the chart needs: rectangles, lines and text, readable on light and on dark."""

from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import escape

_STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#24292f}"
    ".head{font-weight:600;font-size:14px}.dim{fill:#6e7781}"
    ".good{fill:#2da44e}.bad{fill:#cf222e}.other{fill:#8c959f}.plain{fill:#0969da}"
    ".mark{stroke:#24292f;stroke-width:2}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.dim{fill:#8d96a0}.mark{stroke:#e6edf3}}"
)


def text(x: float, y: float, words: str, *, style: str = "", anchor: str = "start") -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" class="{style}" text-anchor="{anchor}">{escape(words)}</text>'
    )


def bar(x: float, y: float, width: float, height: float, style: str) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{max(width, 1):.1f}" height="{height:g}" '
        f'rx="2" class="{style}"/>'
    )


def mark(x: float, y: float, height: float) -> str:
    """A vertical line."""
    return f'<line x1="{x:.1f}" y1="{y:g}" x2="{x:.1f}" y2="{y + height:g}" class="mark"/>'


def drawing(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    """The document; `title` is what a screen reader says."""
    name = escape(title)
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{name}">'
    return "\n".join([head, f"<title>{name}</title><style>{_STYLE}</style>", *parts, "</svg>\n"])
