"""GoogleSQL in WebAssembly, compiled to machine code once."""

import contextlib
import ctypes
import fcntl
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import tzdata
from google.protobuf.message import Message
from wasmtime import Config, Engine, Linker, Module, SharedMemory, Store, WasiConfig, WasmtimeError
from zetasql.wasi import get_wasm_path

from trainer.files import replacing

_BUILD = Path(__file__).parents[3] / "build" / "googlesql"
_TIME_ZONES = Path(tzdata.__file__).parent / "zoneinfo"
_SERVICE = "ZetaSqlLocalService"

Response = TypeVar("Response", bound=Message)


class SqlError(Exception):
    """A statement that GoogleSQL refuses, or that fails when it runs; its text is GoogleSQL's message."""


class LocalService:
    """GoogleSQL's local service: each method takes a message and returns one. Not thread-safe."""

    def __init__(self) -> None:
        config = Config()
        config.shared_memory = True
        engine = Engine(config)
        self._store = Store(engine)
        wasi = WasiConfig()
        wasi.preopen_dir(str(_TIME_ZONES), "/usr/share/zoneinfo")
        self._store.set_wasi(wasi)
        linker = Linker(engine)
        linker.define_wasi()
        self._exports = linker.instantiate(self._store, _compiled(engine)).exports(self._store)
        self._call("_initialize")

    def call(self, method: str, request: Message, response: type[Response]) -> Response:
        """Call a method of the service.

        Raises:
            SqlError: the service returned an error.
        """
        content = request.SerializeToString()
        sent = self._call("wasm_malloc", max(len(content), 1))
        size = self._call("wasm_malloc", 4)
        try:
            ctypes.memmove(self._address(sent), content, len(content))
            received = self._call(f"{_SERVICE}_{method}", sent, len(content), size)
            if not received:
                raise SqlError(self._error())
            length = int.from_bytes(self._read(size, 4), "little")
            answer = response.FromString(self._read(received, length))
            self._call("wasm_free", received)
            return answer
        finally:
            self._call("wasm_free", sent)
            self._call("wasm_free", size)

    def _call(self, function: str, *arguments: int) -> Any:
        return self._exports[function](self._store, *arguments)  # type: ignore[operator]

    def _error(self) -> str:
        length = self._call("wasm_get_last_error_size")
        text = self._read(self._call("wasm_get_last_error"), length).decode()
        return text.partition("Message: ")[2] or text

    def _address(self, pointer: int) -> int:
        # The memory moves when it grows, so its address is not kept.
        memory = self._exports["memory"]
        assert isinstance(memory, SharedMemory)
        return ctypes.addressof(memory.data_ptr().contents) + pointer

    def _read(self, pointer: int, length: int) -> bytes:
        return ctypes.string_at(self._address(pointer), length)


def _compiled(engine: Engine) -> Module:
    """Return the module, which one process compiles (40 seconds of CPU time) while the others wait."""
    _BUILD.mkdir(parents=True, exist_ok=True)
    path = _BUILD / f"zetasql-{version('zetasql')}-wasmtime-{version('wasmtime')}.cwasm"
    with (_BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Neither is there a file at first, nor is one usable that another kind of processor compiled.
        with contextlib.suppress(WasmtimeError):
            return Module.deserialize_file(engine, str(path))
        module = Module.from_file(engine, str(get_wasm_path()))
        with replacing(path) as temporary:
            temporary.write_bytes(module.serialize())
        return module
