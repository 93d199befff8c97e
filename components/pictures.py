"""Pictures inside HTML reports."""

import io

import matplotlib as mpl
from matplotlib.figure import Figure


def svg(figure: Figure) -> str:
    """Return a figure as an ``<svg>`` element; the same figure gives the same text."""
    file = io.StringIO()
    # Without a fixed salt, or with a date and a creator, the bytes would differ between runs.
    with mpl.rc_context({"svg.hashsalt": "wals", "svg.fonttype": "none"}):
        figure.savefig(
            file,
            format="svg",
            bbox_inches="tight",
            metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
        )
    text = file.getvalue()
    return text[text.index("<svg") :]
