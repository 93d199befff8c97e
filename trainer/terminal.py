"""Text for people: numbers with their nouns, and text of other origin made safe to show on a terminal."""

import re

# The control characters of C0, except tab and line feed, and of C1; what changes the direction or the line of
# the text that follows; and halves of characters, which no output can encode.
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str) -> str:
    r"""Return a text with escapes such as ``\x1b`` in place of control characters.

    A terminal obeys control characters: they can move the cursor, change its title or write its clipboard.
    """
    return _HIDDEN.sub(lambda found: ascii(found[0])[1:-1], text)
