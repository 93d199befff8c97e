"""Texts that can be stored."""

from collections.abc import Iterable

from trainer.errors import InputError


def text_problem(text: str) -> str:
    """Return why a text can be neither a path nor a part of a document; "" if it can."""
    if "\0" in text:
        return "contains a null character"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "contains half of a character, or bytes that are not UTF-8"
    return ""


def check_texts(field: str, texts: Iterable[str]) -> None:
    """Check that each text can be stored; see `text_problem`.

    Args:
        field: what the texts are.
        texts: the texts.

    Raises:
        InputError: one cannot.
    """
    for text in texts:
        if problem := text_problem(text):
            raise InputError(field, text, problem, "remove it")
