"""The pieces of a page."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.record import Noted


def page(title: str, subtitle: str, sections: Sequence[str]) -> str:
    """A page that needs nothing but itself; `sections` are markup, the rest is text."""
    template = Template(files("bench").joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(title), subtitle=escape(subtitle), body="\n".join(sections)
    )


def section(title: str, content: str) -> str:
    """`content` is markup."""
    return f"<h2>{escape(title)}</h2>\n{content}"


def paragraphs(*texts: str) -> str:
    """One each, as text."""
    return "\n".join(f"<p>{escape(text)}</p>" for text in texts)


def bullets(lines: Iterable[str]) -> str:
    """A list of texts."""
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def plot(svg: str, caption: str) -> str:
    """A plot of `plots` with what it shows, as text."""
    return (
        f'<figure role="img" aria-label="{escape(caption)}">{svg}'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells of rows may hold markup; whoever makes them has escaped them."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{one}</td>" for one in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>"


def circumstances(record: Noted) -> str:
    """When and where a run was, as text."""
    return (
        f"{record.started_at}, commit {record.commit}, {record.took_s:.0f} s;"
        f" {record.machine.cores} cores ({record.machine.processor}),"
        f" {record.machine.memory_bytes / 1024**3:.0f} GiB, {record.machine.system},"
        f" Python {record.machine.python}, PostgreSQL {record.machine.postgres},"
        f" Kafka {record.machine.broker}"
    )
