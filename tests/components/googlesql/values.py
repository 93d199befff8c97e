"""Arrow's types and values as GoogleSQL's messages, and back."""

import datetime
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
from zetasql.wasi._pb2.zetasql.public import type_pb2
from zetasql.wasi._pb2.zetasql.public.type_pb2 import TypeProto
from zetasql.wasi._pb2.zetasql.public.value_pb2 import ValueProto

NUMERIC = pa.decimal128(38, 9)
_EPOCH = datetime.date(1970, 1, 1)
_NUMERIC_SCALE = 9
_PARTS = {"month": 4, "day": 5, "hour": 5, "minute": 6, "second": 6}
"""Bits of the parts of a DATETIME after the year."""

_SCALARS = {
    "INT64": (pa.int64(), type_pb2.TYPE_INT64, "int64_value"),
    "FLOAT64": (pa.float64(), type_pb2.TYPE_DOUBLE, "double_value"),
    "BOOL": (pa.bool_(), type_pb2.TYPE_BOOL, "bool_value"),
    "STRING": (pa.string(), type_pb2.TYPE_STRING, "string_value"),
    "BYTES": (pa.binary(), type_pb2.TYPE_BYTES, "bytes_value"),
    "NUMERIC": (NUMERIC, type_pb2.TYPE_NUMERIC, "numeric_value"),
    "DATE": (pa.date32(), type_pb2.TYPE_DATE, "date_value"),
    "DATETIME": (pa.timestamp("us"), type_pb2.TYPE_DATETIME, "datetime_value"),
    "TIMESTAMP": (pa.timestamp("us", "UTC"), type_pb2.TYPE_TIMESTAMP, "timestamp_value"),
}
_ARROW = {kind: arrow for arrow, kind, _ in _SCALARS.values()}
_KINDS = {arrow: kind for arrow, kind, _ in _SCALARS.values()}
_FIELDS = {arrow: field for arrow, _, field in _SCALARS.values()}
_NAMES = {arrow: name for name, (arrow, _, _) in _SCALARS.items()}


def scalar(name: str) -> pa.DataType:
    """Return the Arrow type of a scalar SQL type, such as INT64."""
    return _SCALARS[name][0]


def name_of(arrow: pa.DataType) -> str:
    """Return the SQL type of a scalar Arrow type."""
    return _NAMES[arrow]


def type_proto(arrow: pa.DataType) -> TypeProto:
    """Return an Arrow type as GoogleSQL's."""
    if pa.types.is_list(arrow):
        array = type_pb2.ArrayTypeProto(element_type=type_proto(arrow.value_type))
        return TypeProto(type_kind=type_pb2.TYPE_ARRAY, array_type=array)
    if pa.types.is_struct(arrow):
        fields = [
            type_pb2.StructFieldProto(field_name=field.name, field_type=type_proto(field.type))
            for field in arrow
        ]
        struct = type_pb2.StructTypeProto(field=fields)
        return TypeProto(type_kind=type_pb2.TYPE_STRUCT, struct_type=struct)
    return TypeProto(type_kind=_KINDS[arrow])


def arrow_type(proto: TypeProto) -> pa.DataType:
    """Return one of GoogleSQL's types as Arrow's."""
    if proto.type_kind == type_pb2.TYPE_ARRAY:
        return pa.list_(arrow_type(proto.array_type.element_type))
    if proto.type_kind == type_pb2.TYPE_STRUCT:
        return pa.struct(
            [(field.field_name, arrow_type(field.field_type)) for field in proto.struct_type.field]
        )
    return _ARROW[proto.type_kind]


def write_value(proto: ValueProto, arrow: pa.DataType, value: Any) -> None:
    """Put a value of an Arrow type into a message; None leaves it empty, which is NULL."""
    if value is None:
        return
    if pa.types.is_list(arrow):
        proto.array_value.SetInParent()
        for element in value:
            write_value(proto.array_value.element.add(), arrow.value_type, element)
    elif pa.types.is_struct(arrow):
        proto.struct_value.SetInParent()
        for field in arrow:
            write_value(proto.struct_value.field.add(), field.type, value[field.name])
    elif isinstance(value, datetime.datetime):
        if arrow.tz:
            proto.timestamp_value.FromDatetime(value)
        else:
            proto.datetime_value.bit_field_datetime_seconds = _packed(value)
            proto.datetime_value.nanos = value.microsecond * 1000
    elif isinstance(value, datetime.date):
        proto.date_value = (value - _EPOCH).days
    elif isinstance(value, Decimal):
        scaled = int(value.scaleb(_NUMERIC_SCALE))
        proto.numeric_value = scaled.to_bytes(scaled.bit_length() // 8 + 1, "little", signed=True)
    else:
        setattr(proto, _FIELDS[arrow], value)


def read_value(proto: ValueProto, arrow: pa.DataType) -> Any:
    """Return the value of an Arrow type that is in a message."""
    kind = proto.WhichOneof("value")
    if kind is None:
        return None
    if pa.types.is_list(arrow):
        return [read_value(element, arrow.value_type) for element in proto.array_value.element]
    if pa.types.is_struct(arrow):
        return {
            field.name: read_value(value, field.type)
            for field, value in zip(arrow, proto.struct_value.field, strict=True)
        }
    if kind == "timestamp_value":
        return proto.timestamp_value.ToDatetime(datetime.UTC)
    if kind == "numeric_value":
        return Decimal(int.from_bytes(proto.numeric_value, "little", signed=True)).scaleb(-_NUMERIC_SCALE)
    if kind == "datetime_value":
        return _unpacked(proto.datetime_value)
    # Arrow makes a date of the days since 1970.
    return getattr(proto, kind)


def table_of(schema: pa.Schema, rows: Sequence[Sequence[Any]]) -> pa.Table:
    """Return rows of values, in the order of a schema, as a table."""
    columns = zip(*rows, strict=True) if rows else [[] for _ in schema]
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema
    )


def _packed(value: datetime.datetime) -> int:
    """Return a DATETIME's parts, from the year to the second, as one number."""
    packed = value.year
    for part, bits in _PARTS.items():
        packed = packed << bits | getattr(value, part)
    return packed


def _unpacked(value: ValueProto.Datetime) -> datetime.datetime:
    packed, parts = value.bit_field_datetime_seconds, {"microsecond": value.nanos // 1000}
    for part, bits in reversed(_PARTS.items()):
        packed, parts[part] = packed >> bits, packed & (1 << bits) - 1
    return datetime.datetime(packed, **parts)
