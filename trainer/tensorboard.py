"""Training progress as scalars for TensorBoard, written without TensorFlow.

An event file is a TFRecord file of ``Event`` messages, of which four fields are needed. TensorFlow has a
writer, but takes seconds to import and is an optional dependency.
"""

import logging
import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from trainer.history import Iteration

_POLYNOMIAL = 0x82F63B78
_MASK = 0xA282EAD8
_VERSION = b"brain.Event:2"
# Keys (number and wire type) of fields of the messages Event, Summary and Summary.Value.
_WALL_TIME, _STEP, _FILE_VERSION, _SUMMARY = b"\x09", b"\x10", b"\x1a", b"\x2a"
_VALUE, _TAG, _SIMPLE_VALUE = b"\x0a", b"\x0a", b"\x15"

logger = logging.getLogger(__name__)


def folder_of_vertex() -> Path | None:
    """Return the folder that Vertex AI shows in TensorBoard while a job runs; None outside such a job.

    It names a folder of Cloud Storage, whose buckets it mounts.
    """
    folder = os.environ.get("AIP_TENSORBOARD_LOG_DIR", "")
    return Path(folder.replace("gs://", "/gcs/", 1)) if folder else None


class Scalars:
    """Writes the objective, the seconds and the validation metric of each iteration it is called with.

    Each iteration is written to the file before the next begins. If the folder cannot be written to, a
    warning is logged and training continues without scalars.
    """

    def __init__(self, folder: Path) -> None:
        """Set the folder, TensorBoard's ``--logdir``; each object writes its own file there."""
        self._path = folder / f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        self._broken = False

    def __call__(self, iteration: Iteration) -> None:
        """Write an iteration's scalars."""
        scalars = {"objective": iteration.objective, "seconds": iteration.seconds}
        if iteration.validation is not None:
            scalars["validation"] = iteration.validation
        if self._broken:
            return
        try:
            self._append(iteration.number, scalars)
        except OSError as error:
            self._broken = True
            logger.warning("%s: no TensorBoard scalars are written (%s)", self._path.parent, error.strerror)

    def _append(self, step: int, scalars: Mapping[str, float]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        summary = b"".join(
            _field(_VALUE, _field(_TAG, tag.encode()) + _SIMPLE_VALUE + struct.pack("<f", value))
            for tag, value in scalars.items()
        )
        begins = not self._path.exists()
        with self._path.open("ab") as file:
            if begins:
                file.write(_record(_event(_field(_FILE_VERSION, _VERSION))))
            file.write(_record(_event(_STEP + _varint(step) + _field(_SUMMARY, summary))))


def _event(content: bytes) -> bytes:
    return _WALL_TIME + struct.pack("<d", time.time()) + content


def _field(key: bytes, content: bytes) -> bytes:
    """Return a field of bytes, text or a message."""
    return key + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def _record(content: bytes) -> bytes:
    """Return a TFRecord: length, its checksum, content, its checksum."""
    length = struct.pack("<Q", len(content))
    return length + _checksum(length) + content + _checksum(content)


def _checksum(content: bytes) -> bytes:
    """Return the CRC-32C, masked as in TFRecord files."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = crc >> 8 ^ _CRCS[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF)


def _crc(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_CRCS = [_crc(byte) for byte in range(256)]
