"""A BigQuery whose SQL GoogleSQL itself analyzes and runs, behind the APIs that the real clients speak.

It has query jobs, their dry runs, tables and Storage Read, as far as our engine uses them. The project's
default time zone is not UTC: an administrator can set another one.
"""

import itertools
import json
import re
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import grpc
import pyarrow as pa
from google.cloud.bigquery_storage import types

from tests.components.googlesql.reference import GoogleSQL, Parameters, Source, Statement
from tests.components.googlesql.values import name_of, scalar
from tests.components.googlesql.wasm import SqlError

DEFAULT_TIME_ZONE = "America/Los_Angeles"
_LOCATION = "US"
_READ_API = "google.cloud.bigquery.storage.v1.BigQueryRead"
_SNAPSHOT = re.compile(r"FOR SYSTEM_TIME AS OF CAST\(@snapshot AS TIMESTAMP\)")
_LEGACY_NAMES = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN"}
_SUFFIX = "_TABLE_SUFFIX"
_PARTS = ("projectId", "datasetId", "tableId")


@dataclass(frozen=True)
class Query:
    """A query that was sent.

    Attributes:
        sql: its text.
        parameters: values of its parameters.
        dry: whether it was a dry run.
    """

    sql: str
    parameters: Mapping[str, Any]
    dry: bool


class _RequestError(Exception):
    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class BigQueryServer:
    """Serves until the end of a `with` block.

    Attributes:
        rest: URL of the REST API.
        grpc: ``host:port`` of the Storage Read API.
        tables: tables by ``project.dataset.table``.
        queries: the queries sent, in order.
    """

    def __init__(self, sql: GoogleSQL) -> None:
        self._sql = sql
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._jobs: dict[str, dict[str, Any]] = {}
        self.tables: dict[str, pa.Table] = {}
        self.queries: list[Query] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.rest = f"http://127.0.0.1:{self._http.server_port}"
        self._reads = grpc.server(ThreadPoolExecutor(8))
        handlers = {
            "CreateReadSession": grpc.unary_unary_rpc_method_handler(
                self._session,
                request_deserializer=types.CreateReadSessionRequest.deserialize,
                response_serializer=types.ReadSession.serialize,
            ),
            "ReadRows": grpc.unary_stream_rpc_method_handler(
                self._rows,
                request_deserializer=types.ReadRowsRequest.deserialize,
                response_serializer=types.ReadRowsResponse.serialize,
            ),
        }
        self._reads.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_READ_API, handlers)])
        self.grpc = f"127.0.0.1:{self._reads.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._reads.start()
        threading.Thread(target=self._http.serve_forever, args=(0.05,)).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._reads.stop(None).wait()

    def answer(self, method: str, path: list[str], body: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a request; ``path`` begins with the project."""
        match method, path[1:]:
            case "POST", ["jobs"]:
                with self._lock:
                    return self._insert(path[0], body)
            case "GET", ["jobs", job]:
                return self._jobs[job]
            case "GET", ["queries", job]:
                return {
                    "jobReference": self._jobs[job]["jobReference"],
                    "jobComplete": True,
                    "totalRows": "0",
                }
            case "GET", ["datasets", dataset]:
                reference = {"projectId": path[0], "datasetId": dataset}
                return {"datasetReference": reference, "location": _LOCATION}
            case "GET" | "PATCH", ["datasets", dataset, "tables", table]:
                return self._table(f"{path[0]}.{dataset}.{table}")
            case _:
                raise _RequestError(501, "notImplemented", f"{method} {path}")

    def _insert(self, project: str, body: dict[str, Any]) -> dict[str, Any]:
        configuration, job = body["configuration"], body["jobReference"]["jobId"]
        query, dry = configuration["query"], bool(configuration.get("dryRun"))
        parameters = _parameters(query)
        values = {name: value for name, (_, value) in parameters.items()}
        self.queries.append(Query(query["query"], values, dry))
        destination = query.setdefault(
            "destinationTable",
            {"projectId": project, "datasetId": "_results", "tableId": f"t{next(self._numbers)}"},
        )
        try:
            statement = self._run(query, parameters, None if dry else _path(destination))
        except SqlError as error:
            raise _RequestError(400, "invalidQuery", str(error)) from error
        schema = None if statement.schema is None else {"fields": _fields(statement.schema)}
        self._jobs[job] = {
            "jobReference": {"projectId": project, "jobId": job, "location": _LOCATION},
            "configuration": configuration,
            "status": {"state": "DONE"},
            "statistics": {
                "totalBytesProcessed": "0",
                "query": {"statementType": statement.kind, "schema": schema, "totalBytesProcessed": "0"},
            },
        }
        return self._jobs[job]

    def _run(self, query: Mapping[str, Any], parameters: Parameters, destination: str | None) -> Statement:
        """Analyze a query or, if it has a destination, run it."""
        sql = query["query"]
        properties = {pair["key"]: pair["value"] for pair in query.get("connectionProperties", ())}
        zone = properties.get("time_zone", DEFAULT_TIME_ZONE)
        sources = {name: self._source(name) for name in self._sql.tables_in(sql)}
        if not destination:
            return self._sql.analyze(sql, sources, parameters, zone)
        # The reference implementation has no snapshots; the dry run before has analyzed the clause.
        rows = self._sql.execute(_SNAPSHOT.sub("", sql), sources, parameters, zone)
        self.tables[destination] = rows
        return Statement("SELECT", rows.schema)

    def _source(self, path: str) -> Source:
        if not path.endswith("*"):
            self._table(path)
            return Source(self.tables[path])
        prefix = path[:-1]
        matching = {
            name[len(prefix) :]: rows for name, rows in self.tables.items() if name.startswith(prefix)
        }
        if not matching:
            raise _RequestError(400, "invalidQuery", f"{path} does not match any table.")
        return Source(
            pa.concat_tables(
                rows.append_column(_SUFFIX, pa.array([suffix] * rows.num_rows, pa.string()))
                for suffix, rows in matching.items()
            ),
            pseudo=(_SUFFIX,),
        )

    def _table(self, path: str) -> dict[str, Any]:
        if path not in self.tables:
            raise _RequestError(404, "notFound", f"Not found: Table {path}")
        return {
            "tableReference": dict(zip(_PARTS, path.split("."), strict=True)),
            "schema": {"fields": _fields(self.tables[path].schema)},
            "type": "TABLE",
            "location": _LOCATION,
        }

    def _session(self, request: types.CreateReadSessionRequest, _: object) -> types.ReadSession:
        _, project, _, dataset, _, table = request.read_session.table.split("/")
        name = f"{project}.{dataset}.{table}"
        rows = self.tables[name]
        return types.ReadSession(
            arrow_schema={"serialized_schema": rows.schema.serialize().to_pybytes()},
            streams=[{"name": name}] if rows.num_rows else [],
        )

    def _rows(self, request: types.ReadRowsRequest, _: object) -> Any:
        for batch in self.tables[request.read_stream].slice(request.offset).combine_chunks().to_batches():
            message = {"serialized_record_batch": batch.serialize().to_pybytes()}
            yield types.ReadRowsResponse(arrow_record_batch=message, row_count=batch.num_rows)


def _path(reference: Mapping[str, str]) -> str:
    return ".".join(reference[part] for part in _PARTS)


def _parameters(query: Mapping[str, Any]) -> Parameters:
    convert = {"INT64": int, "FLOAT64": float, "STRING": str}
    return {
        parameter["name"]: (
            scalar(kind := parameter["parameterType"]["type"]),
            convert[kind](parameter["parameterValue"]["value"]),
        )
        for parameter in query.get("queryParameters", ())
    }


def _fields(schema: Any) -> list[dict[str, Any]]:
    """Return the fields of a schema or a struct as the REST API has them."""
    fields = []
    for field in schema:
        repeated = pa.types.is_list(field.type)
        kind = field.type.value_type if repeated else field.type
        mode = "REPEATED" if repeated else "NULLABLE"
        if pa.types.is_struct(kind):
            fields.append({"name": field.name, "type": "RECORD", "mode": mode, "fields": _fields(kind)})
        else:
            name = name_of(kind)
            fields.append({"name": field.name, "type": _LEGACY_NAMES.get(name, name), "mode": mode})
    return fields


def _handler(server: BigQueryServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _respond(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length) or b"{}")
            path = self.path.partition("?")[0].partition("/projects/")[2].split("/")
            code = 200
            try:
                answer = server.answer(self.command, path, body)
            except _RequestError as error:
                code, reason, message = error.code, error.reason, str(error)
            except Exception as error:  # the client would repeat a request without an answer
                code, reason, message = 501, "notImplemented", repr(error)
            if code != 200:
                errors = [{"reason": reason, "message": message}]
                answer = {"error": {"code": code, "message": message, "errors": errors}}
            content = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = _respond  # noqa: N815 - http.server looks for these names

        def log_message(self, *_: object) -> None:
            pass

    return Handler
