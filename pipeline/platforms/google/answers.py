"""Answers of Google's REST interfaces as they are documented."""

from typing import TypeVar

import pydantic

from components.answers import field_problem, undocumented

Answered = TypeVar("Answered", bound=pydantic.BaseModel)


class Answer(pydantic.BaseModel):
    """Base of the models of answers: other fields are ignored."""

    model_config = pydantic.ConfigDict(frozen=True)


def typed(body: bytes, model: type[Answered], server: str) -> Answered:
    """Return a body as a model.

    Raises:
        WalsError: it is not JSON of that kind; the line names the field.
    """
    try:
        return model.model_validate_json(body)
    except pydantic.ValidationError as error:
        raise undocumented(server, field_problem(error)) from error
