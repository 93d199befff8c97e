"""BigQuery's own SQL: GoogleSQL's analyzer and reference implementation, with BigQuery's options."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from google.protobuf import text_format
from google.protobuf.empty_pb2 import Empty
from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service
from zetasql.wasi._pb2.zetasql.proto import options_pb2
from zetasql.wasi._pb2.zetasql.public import options_pb2 as public_options
from zetasql.wasi._pb2.zetasql.public.parse_resume_location_pb2 import ParseResumeLocationProto

from tests.components.googlesql.values import arrow_type, read_value, table_of, type_proto, write_value
from tests.components.googlesql.wasm import LocalService

_CATALOGS = 4
"""Catalogs that are kept."""

_OPTIONS = Path(__file__).with_name("language_options.textproto")

Parameters = Mapping[str, tuple[pa.DataType, Any]]
"""Type and value of each query parameter."""


@dataclass(frozen=True)
class Source:
    """A table of the catalog.

    Attributes:
        rows: the rows, with all columns.
        pseudo: columns that ``*`` leaves out.
    """

    rows: pa.Table
    pseudo: tuple[str, ...] = ()


Tables = Mapping[str, Source]
"""Tables by the path by which the SQL names them."""


@dataclass(frozen=True)
class Statement:
    """An analyzed statement.

    Attributes:
        kind: BigQuery's name of its kind, such as SELECT; SCRIPT if there are several statements.
        schema: columns of the result of a SELECT; None for others.
    """

    kind: str
    schema: pa.Schema | None


class GoogleSQL:
    """Analyzes and runs BigQuery SQL over tables in memory. Not thread-safe."""

    def __init__(self) -> None:
        self._service = LocalService()
        self._registered: dict[int, Tables] = {}
        self._language = text_format.Parse(_OPTIONS.read_text(), options_pb2.LanguageOptionsProto())

    def tables_in(self, sql: str) -> list[str]:
        """Return the paths of the tables that a statement or script names."""
        request = service.ExtractTableNamesFromStatementRequest(
            sql_statement=sql, options=self._language, allow_script=True
        )
        names = self._service.call(
            "ExtractTableNamesFromStatement", request, service.ExtractTableNamesFromStatementResponse
        )
        return [".".join(name.table_name_segment) for name in names.table_name]

    def analyze(self, sql: str, tables: Tables, parameters: Parameters, time_zone: str) -> Statement:
        """Analyze the first statement.

        Raises:
            SqlError: it is not valid.
        """
        request = service.AnalyzeRequest(
            options=self._options(parameters, time_zone),
            registered_catalog_id=self._catalog(tables),
            parse_resume_location=ParseResumeLocationProto(input=sql, byte_position=0),
        )
        answer = self._service.call("Analyze", request, service.AnalyzeResponse)
        if sql.encode()[answer.resume_byte_position :].strip():
            return Statement("SCRIPT", None)
        node = answer.resolved_statement.WhichOneof("node")
        if node != "resolved_query_stmt_node":
            return Statement(node.removeprefix("resolved_").removesuffix("_stmt_node").upper(), None)
        columns = answer.resolved_statement.resolved_query_stmt_node.output_column_list
        return Statement("SELECT", pa.schema([(c.name, arrow_type(c.column.type)) for c in columns]))

    def execute(self, sql: str, tables: Tables, parameters: Parameters, time_zone: str) -> pa.Table:
        """Run a SELECT and return its rows.

        Raises:
            SqlError: it is not valid, or fails.
        """
        request = service.EvaluateQueryRequest(
            sql=sql,
            options=self._options(parameters, time_zone),
            registered_catalog_id=self._catalog(tables),
        )
        for name, (arrow, value) in parameters.items():
            write_value(request.params.add(name=name).value, arrow, value)
        answer = self._service.call("EvaluateQuery", request, service.EvaluateQueryResponse)
        schema = pa.schema([(column.name, arrow_type(column.type)) for column in answer.prepared.columns])
        return table_of(
            schema,
            [
                [read_value(cell, field.type) for cell, field in zip(row.cell, schema, strict=True)]
                for row in answer.content.table_data.row
            ],
        )

    def _options(self, parameters: Parameters, time_zone: str) -> options_pb2.AnalyzerOptionsProto:
        options = options_pb2.AnalyzerOptionsProto(
            language_options=self._language,
            default_timezone=time_zone,
            prune_unused_columns=True,
            error_message_mode=public_options.ERROR_MESSAGE_ONE_LINE,
        )
        for name, (arrow, _) in parameters.items():
            options.query_parameters.add(name=name, type=type_proto(arrow))
        return options

    def _catalog(self, tables: Tables) -> int:
        """Return the number of the catalog of some tables.

        To make one takes most of the time of a statement, and the next statement often reads the same tables.
        """
        for number, registered in self._registered.items():
            if registered.keys() == tables.keys() and all(
                registered[n].rows is tables[n].rows for n in tables
            ):
                return number
        if len(self._registered) == _CATALOGS:
            oldest = next(iter(self._registered))
            del self._registered[oldest]
            self._service.call("UnregisterCatalog", service.UnregisterRequest(registered_id=oldest), Empty)
        request = service.RegisterCatalogRequest()
        request.simple_catalog.name = "bigquery"
        request.simple_catalog.builtin_function_options.language_options.CopyFrom(self._language)
        for number, (name, source) in enumerate(tables.items(), 1):
            table = request.simple_catalog.table.add(name=name, serialization_id=number)
            content = request.table_content[name].table_data
            content.SetInParent()
            for field in source.rows.schema:
                pseudo = field.name in source.pseudo
                table.column.add(name=field.name, type=type_proto(field.type), is_pseudo_column=pseudo)
            for row in source.rows.to_pylist():
                cells = content.row.add()
                for field in source.rows.schema:
                    write_value(cells.cell.add(), field.type, row[field.name])
        answer = self._service.call("RegisterCatalog", request, service.RegisterResponse)
        self._registered[answer.registered_id] = dict(tables)
        return answer.registered_id
