"""A relay in front of the emulator's Storage Read API, with faults that a test chooses.

The emulator sends each stream as one message, so that nothing can break in the middle. The relay sends small
messages, honours offsets, and breaks streams or refuses sessions on demand.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pyarrow as pa
from google.cloud.bigquery_storage import types

ROWS_PER_MESSAGE = 10_000
_SERVICE = "google.cloud.bigquery.storage.v1.BigQueryRead"


class ReadRelay:
    """Serves on ``address`` until the end of a `with` block.

    Attributes:
        address: ``host:port``.
        session_fault: status code and message with which sessions are refused.
        stream_fault: status code and message with which each stream breaks once, after three messages.
        after_session: called after a session has been created, before anything is read.
        parents: projects that pay, from the requests for sessions.
        offsets: offsets of the requests for each stream, in order.
        lengths: number of rows of each stream.
    """

    def __init__(self, emulator):
        self.session_fault = self.stream_fault = None
        self.after_session = lambda: None
        self.parents, self.offsets, self.lengths = [], {}, {}
        self._schema = None
        self._lock = threading.Lock()
        self._channel = grpc.insecure_channel(emulator)
        self._server = grpc.server(ThreadPoolExecutor(16))
        handlers = {
            "CreateReadSession": grpc.unary_unary_rpc_method_handler(self._session),
            "ReadRows": grpc.unary_stream_rpc_method_handler(
                self._rows,
                request_deserializer=types.ReadRowsRequest.deserialize,
                response_serializer=types.ReadRowsResponse.serialize,
            ),
        }
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_SERVICE, handlers)])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self):
        self._server.start()
        return self

    def __exit__(self, *_):
        self._server.stop(None).wait()
        self._channel.close()

    def _session(self, request, context):
        self.parents.append(types.CreateReadSessionRequest.deserialize(request).parent)
        if self.session_fault:
            context.abort(*self.session_fault)
        response = self._channel.unary_unary(f"/{_SERVICE}/CreateReadSession")(request)
        schema = types.ReadSession.deserialize(response).arrow_schema.serialized_schema
        self._schema = pa.ipc.read_schema(pa.py_buffer(schema))
        self.after_session()
        return response

    def _rows(self, request, context):
        with self._lock:
            offsets = self.offsets.setdefault(request.read_stream, [])
            offsets.append(request.offset)
        table = self._read(request.read_stream)
        self.lengths[request.read_stream] = table.num_rows
        fault = self.stream_fault if len(offsets) == 1 else None
        for number, start in enumerate(range(request.offset, table.num_rows, ROWS_PER_MESSAGE)):
            if fault and number == 3:
                context.abort(*fault)
            (batch,) = table.slice(start, ROWS_PER_MESSAGE).combine_chunks().to_batches()
            message = {"serialized_record_batch": batch.serialize().to_pybytes()}
            yield types.ReadRowsResponse(arrow_record_batch=message, row_count=batch.num_rows)

    def _read(self, stream):
        read = self._channel.unary_stream(
            f"/{_SERVICE}/ReadRows",
            request_serializer=types.ReadRowsRequest.serialize,
            response_deserializer=types.ReadRowsResponse.deserialize,
        )
        batches = [
            pa.ipc.read_record_batch(
                pa.py_buffer(response.arrow_record_batch.serialized_record_batch), self._schema
            )
            for response in read(types.ReadRowsRequest(read_stream=stream))
            if response.arrow_record_batch.serialized_record_batch
        ]
        return pa.Table.from_batches(batches, self._schema)
