"""Tells the demo's story line by line, and keeps count of what did not come true."""

from collections.abc import Iterable, Sequence


class Narrator:
    """Prints chapters, lines and expectations. `broken` holds the expectations that failed."""

    def __init__(self) -> None:
        self.broken: list[str] = []
        self.held = 0
        self._chapter = 0

    def chapter(self, title: str) -> None:
        self._chapter += 1
        self.say(f"\n{self._chapter}. {title}")

    def say(self, line: str) -> None:
        print(line, flush=True)

    def expect(self, promise: str, *, holds: bool) -> None:
        """Prints `promise`, with a mark for whether it holds."""
        self.say(f"   {'ok  ' if holds else 'FAIL'} {promise}")
        if holds:
            self.held += 1
        else:
            self.broken.append(promise)

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Columns as wide as their widest cell."""
        lines = [tuple(header), *(tuple(row) for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            self.say("   " + "  ".join(cells).rstrip())
