"""Validated options: one declaration per option, and one line for each problem with a value."""

import difflib
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, cast, get_args, get_origin

import pydantic
from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from trainer.errors import CombinedInputError, InputError, has_credentials
from trainer.texts import text_problem


class Options(pydantic.BaseModel):
    """Base of the options models: immutable, strictly typed, without unknown names or infinite numbers.

    A field declares everything about an option: type, default, bounds, choices (a ``Literal``), a description
    in one sentence, its group in help texts, and whether it is common. The pipeline's parameters, the command
    line, the checks and the reference documentation are derived from these declarations.
    """

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )

    if not TYPE_CHECKING:  # so that type checkers derive the arguments from the fields

        def __init__(self, **values: Any) -> None:
            """Validate the values.

            Raises:
                InputError: naming the field, the value and the remedy.
                CombinedInputError: several values cannot be used, or conflict with each other.
            """
            try:
                super().__init__(**values)
            except pydantic.ValidationError as error:
                raise CombinedInputError.of(input_errors(error, type(self))) from error
            conflicts = list(self.conflicts())
            if conflicts:
                raise CombinedInputError.of(conflicts)

    @pydantic.field_validator("*", mode="after")
    @classmethod
    def _is_storable(cls, value: Any) -> Any:
        if isinstance(value, str) and (problem := text_problem(value)):
            raise invalid(problem, "remove it")
        return value

    def conflicts(self) -> Iterator[InputError]:
        """Yield the problems of values that are valid individually but not in combination."""
        yield from ()

    def replace(self, **changes: Any) -> Self:
        """Return a validated copy in which some fields have other values.

        Raises:
            InputError: a value cannot be used.
        """
        return type(self)(**{**self.model_dump(), **changes})

    @classmethod
    def select(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of this model's fields from the values of several models.

        Raises:
            KeyError: a field has no value.
        """
        return {name: values[name] for name in cls.model_fields}


def fields_of(model: type[Options], names: Collection[str]) -> dict[str, Any]:
    """Return some of a model's fields in the form that ``pydantic.create_model`` takes."""
    return {name: (model.model_fields[name].annotation, model.model_fields[name]) for name in names}


def group(name: str, *, common: bool = False) -> dict[str, Any]:
    """Return the ``json_schema_extra`` of a field for help texts.

    Args:
        name: heading to list the field under.
        common: whether ``--help`` shows the field, and not only ``--help-all``.
    """
    return {"group": name, "common": common}


def is_common(field: FieldInfo) -> bool:
    """Return whether a field is declared with a `group` that is common."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra["common"])


def invalid(problem: str, remedy: str) -> PydanticCustomError:
    """Return the error for a field's own validator to raise.

    Args:
        problem: what is wrong with the value, without a capital or a full stop.
        remedy: what to do instead, as an imperative.
    """
    return PydanticCustomError("invalid", "{problem}", {"problem": problem, "remedy": remedy})


def valid_if(check: Callable[[str], object]) -> AfterValidator:
    """Return a validator of a text field.

    Args:
        check: raises `InputError` if it refuses the text; its field and value are replaced by the option's.
    """

    def validate(text: str) -> str:
        try:
            check(text)
        except InputError as error:
            raise invalid(error.problem, error.remedy) from error
        return text

    return AfterValidator(validate)


def no_credentials(remedy: str) -> AfterValidator:
    """Return a validator of a text field that refuses an address with a user name or a password.

    They would be shown wherever the address is: in messages, links, logs, and the metadata of artifacts.

    Args:
        remedy: where to put them instead, as an imperative.
    """

    def validate(text: str) -> str:
        if has_credentials(text):
            raise invalid("contains credentials", remedy)
        return text

    return AfterValidator(validate)


AUTO = "auto"
"""Text that stands for a value which is chosen for the data."""


@dataclass(frozen=True)
class Bounds:
    """The range of a number.

    Attributes:
        low: least value; None for no bound.
        high: greatest value; None for no bound.
        open_low: whether ``low`` itself is excluded.
        open_high: whether ``high`` itself is excluded.
    """

    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False

    @classmethod
    def of(cls, field: FieldInfo) -> Self:
        """Return the bounds that a field declares."""
        found: dict[str, Any] = {}
        for constraint in field.metadata:
            match constraint:
                case Ge(ge=low):
                    found |= {"low": low}
                case Gt(gt=low):
                    found |= {"low": low, "open_low": True}
                case Le(le=high):
                    found |= {"high": high}
                case Lt(lt=high):
                    found |= {"high": high, "open_high": True}
                case NumberOrAuto(bounds=bounds):
                    return cast(Self, bounds)
        return cls(**found)

    def problem(self, value: float) -> str:
        """Return how a value is outside the bounds, such as "is below 1"; "" if it is not."""
        low, high = self.low, self.high
        if low is not None and (value < low or (self.open_low and value == low)):
            return _PROBLEM_OF_BOUND["gt" if self.open_low else "ge"].format(_number(low))
        if high is not None and (value > high or (self.open_high and value == high)):
            return _PROBLEM_OF_BOUND["lt" if self.open_high else "le"].format(_number(high))
        return ""

    @property
    def interval(self) -> str:
        """The bounds as an interval of x, such as "0<x<=1"; "" without bounds."""
        low = "" if self.low is None else f"{_number(self.low)}{'<' if self.open_low else '<='}"
        high = "" if self.high is None else f"{'<' if self.open_high else '<='}{_number(self.high)}"
        if low and not high:
            return f"x{'>' if self.open_low else '>='}{_number(self.low)}"
        return f"{low}x{high}" if high else ""

    def __str__(self) -> str:
        """Return the bounds in words, such as "of at least 1"; "" without bounds."""
        low = high = ""
        if self.low is not None:
            low = f"above {_number(self.low)}" if self.open_low else f"of at least {_number(self.low)}"
        if self.high is not None:
            high = f"below {_number(self.high)}" if self.open_high else f"of at most {_number(self.high)}"
        return " and ".join(filter(None, (low, high)))


def _number(value: float | None) -> str:
    """Return an integer with all its digits, and another number in its shortest form."""
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class NumberOrAuto:
    """Metadata of a text field that is ``auto`` or a number; a number is accepted too, and becomes text.

    Attributes:
        kind: ``int`` or ``float``.
        bounds: range of the number.
    """

    kind: type
    bounds: Bounds

    @classmethod
    def of(cls, model: type[Options], name: str) -> Self:
        """Return the metadata for the kind and the range of a number's field."""
        field = model.model_fields[name]
        return cls(value_type(field), Bounds.of(field))

    @classmethod
    def in_field(cls, field: FieldInfo) -> Self | None:
        """Return the metadata of a field; None for any other field."""
        return next((one for one in field.metadata if isinstance(one, cls)), None)

    @property
    def noun(self) -> str:
        """The kind of number in words, with its article."""
        return "an integer" if self.kind is int else "a number"

    def __get_pydantic_core_schema__(self, source: Any, handler: pydantic.GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema by which pydantic validates the field."""
        return core_schema.no_info_before_validator_function(self._text, handler(source))

    def _text(self, value: object) -> str:
        """Return the text of a value.

        Raises:
            PydanticCustomError: it is neither ``auto`` nor such a number.
        """
        if value == AUTO:
            return AUTO
        remedy = f"give {AUTO} or {self.noun} {self.bounds}".rstrip()
        problem = f"is neither {AUTO} nor {self.noun}"
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise invalid(problem, remedy)
        # An integer has no point, and no leading zero, which some readers take for octal.
        form = r"[-+]?(0|[1-9][0-9]*)" if self.kind is int else r"[-+.0-9a-zA-Z]+"
        if not re.fullmatch(form, str(value)):
            raise invalid(problem, remedy)
        try:
            number = self.kind(value)
        except ValueError:
            raise invalid(problem, remedy) from None
        if self.kind is float and not math.isfinite(number):
            raise invalid("is not a finite number", remedy)
        if outside := self.bounds.problem(number):
            raise invalid(outside, remedy)
        return str(number)


def choices_of(annotation: Any) -> tuple[Any, ...]:
    """Return the values that a ``Literal`` type allows; none for any other type."""
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def value_type(field: FieldInfo) -> type:
    """Return the type of a field's values; for a ``Literal``, the type of its choices."""
    choices = choices_of(field.annotation)
    kind = type(choices[0]) if choices else field.annotation
    if not isinstance(kind, type):
        raise TypeError(f"{field!r} has no single type")
    return kind


def input_errors(
    error: pydantic.ValidationError,
    model: type[pydantic.BaseModel],
    *,
    prefix: str = "",
    missing: str = "give a value",
) -> list[InputError]:
    """Return an error for each problem that pydantic found.

    Args:
        error: raised by the model.
        model: model whose fields determine the remedies.
        prefix: prefix of the fields' names, such as ``"platform."``.
        missing: remedy if a required field has no value; ``{option}`` stands for the field's option.
    """
    return [_input_error(detail, model, prefix, missing) for detail in error.errors()]


def unknown_field(name: str, value: object, known: Collection[str]) -> InputError:
    """Return the error for an unknown name."""
    return InputError(name, value, _PROBLEMS["extra_forbidden"], _nearest(name, known))


def _nearest(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else "omit it"


_PROBLEMS = {
    "int_type": "is not an integer",
    "int_parsing": "is not an integer",
    "int_from_float": "is not an integer",
    "float_type": "is not a number",
    "float_parsing": "is not a number",
    "finite_number": "is not a finite number",
    "bool_type": "is not true or false",
    "bool_parsing": "is not true or false",
    "string_type": "is not text",
    "string_pattern_mismatch": "has an invalid format",
    "string_too_short": "is too short",
    "dict_type": "is not a mapping",
    "model_type": "is not a mapping",
    "list_type": "is not a list",
    "literal_error": "is unknown",
    "missing": "is missing",
    "extra_forbidden": "is unknown",
}


def _input_error(
    detail: ErrorDetails, model: type[pydantic.BaseModel], prefix: str, missing: str
) -> InputError:
    place = [str(part) for part in detail["loc"]]
    name = (prefix + ".".join(place)).rstrip(".")
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "missing":
        return InputError(name, "", _PROBLEMS[kind], missing.format(option=place[-1].replace("_", "-")))
    problem = _PROBLEMS.get(kind) or _out_of_bounds(context) or detail["msg"].removeprefix("Value error, ")
    return InputError(name, detail["input"], problem, _remedy(kind, context, model, place))


_PROBLEM_OF_BOUND = {
    "ge": "is below {}",
    "gt": "is not above {}",
    "le": "is above {}",
    "lt": "is not below {}",
}


def _out_of_bounds(context: Mapping[str, Any]) -> str:
    for bound, problem in _PROBLEM_OF_BOUND.items():
        if bound in context:
            return problem.format(_number(context[bound]))
    return ""


def _remedy(
    kind: str, context: Mapping[str, Any], model: type[pydantic.BaseModel], place: Sequence[str]
) -> str:
    if kind == "invalid":
        return str(context["remedy"])
    owner, field = _find(model, place)
    if kind == "extra_forbidden":
        return _nearest(place[-1], owner.model_fields)
    if field is None:
        return "give another value"
    if choices := choices_of(field.annotation):
        return f"choose from {', '.join(map(str, choices))}"
    number = {int, float} & {field.annotation, *get_args(field.annotation)}
    if number:
        noun = "an integer" if number == {int} else "a number"
        return f"give {noun} {Bounds.of(field)}".rstrip()
    if kind == "string_pattern_mismatch" and field.description:
        return f"expected: {field.description.rstrip('.')}"
    return "give another value"


def _find(
    model: type[pydantic.BaseModel], place: Sequence[str]
) -> tuple[type[pydantic.BaseModel], FieldInfo | None]:
    """Return the model that owns the last field of a path, and the field, or None if it does not exist."""
    for name in place[:-1]:
        field = model.model_fields.get(name)
        nested = (
            [kind for kind in (field.annotation, *get_args(field.annotation)) if _is_model(kind)]
            if field
            else []
        )
        if not nested:
            return model, field
        model = nested[0]
    return model, model.model_fields.get(place[-1])


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)
