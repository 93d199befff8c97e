"""Pictures for reports that are one file."""

import io

import matplotlib as mpl
from matplotlib.figure import Figure


def svg(figure: Figure) -> str:
    """Return a figure as an ``<svg>`` element; the same figure gives the same text."""
    file = io.StringIO()
    # A fixed salt and no date or maker, or the bytes would differ from run to run.
    with mpl.rc_context({"svg.hashsalt": "wals", "svg.fonttype": "none"}):
        figure.savefig(
            file,
            format="svg",
            bbox_inches="tight",
            metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
        )
    text = file.getvalue()
    return text[text.index("<svg") :]
