"""Figures of Matplotlib inside HTML reports."""

import io

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.figure import Figure


def svg(figure: Figure, label: str) -> Markup:
    """Return a figure as an ``<svg>`` element; the same figure gives the same text.

    Args:
        figure: the figure.
        label: alternative for those who cannot see it.
    """
    file = io.StringIO()
    # Without a fixed salt, or with a date and a creator, the bytes would differ between runs.
    with mpl.rc_context({"svg.hashsalt": "wals", "svg.fonttype": "none"}):
        figure.savefig(
            file,
            format="svg",
            bbox_inches="tight",
            transparent=True,
            metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
        )
    text = file.getvalue()
    return Markup(f'<svg role="img" aria-label="{escape(label)}" ') + Markup(text[text.index("<svg") + 4 :])  # noqa: S704 - Matplotlib escapes the figure's texts
