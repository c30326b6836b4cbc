"""
Delimited text in any dialect that a declaration can say, as careful senders write it.

Belongs here: a writer that shares no code with the reader. Doesn't: assertions.
"""

from collections.abc import Sequence

from hypothesis import strategies as st

from ingestion_platform.format import Csv

ORDINARY = "ab1 .é😀\u2028"


def cells_of(alphabet: str) -> st.SearchStrategy[str]:
    """Short cells of few characters, so that special ones meet often."""
    return st.text(st.sampled_from(sorted(set(alphabet))), max_size=5)


def written(
    format: Csv,
    names: Sequence[str],
    table: Sequence[Sequence[str]],
    *,
    end: str | None = None,
    quotes_all: bool = False,
    preamble: Sequence[str] = (),
    footer: Sequence[str] = (),
) -> str:
    """
    The table, with its header where the format has one.

    Args:
        end: of lines; default: the format's own.
        quotes_all: around every cell; otherwise where one is needed.
        preamble: lines before the header.
        footer: lines after the records.
    """
    end = end or ("\n" if format.line_end == "any" else format.line_end)
    delimiter, quote, escape = str(format.delimiter), str(format.quote), str(format.escape)

    def cell(text: str) -> str:
        needs = any(mark in text for mark in (delimiter, quote, "\r", "\n", escape) if mark)
        # The characters of a long delimiter meet at the seams, and a lone empty cell would be a blank line.
        seams = len(delimiter) > 1 and any(mark in text for mark in delimiter)
        special = bool(format.comment and text.startswith(format.comment)) or text.startswith("TRAILER") or not text
        if not (quotes_all or needs or seams or special):
            return text
        if not escape:
            return quote + text.replace(quote, quote + quote) + quote
        for mark in (escape, quote):
            text = text.replace(mark, escape + mark)
        # An escape that isn't meant as one, before what it would escape.
        return quote + text + quote

    lines = [*preamble]
    if format.header_rows:
        lines += [delimiter.join(map(cell, names))]
    lines += [delimiter.join(map(cell, row)) for row in table]
    return "".join(line + end for line in [*lines, *footer])
