"""The client of a Kubeflow Pipelines server, and its errors as one line."""

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import kfp_server_api
import urllib3

from components.answers import whole
from components.limits import CONNECT_SECONDS, TIMEOUT
from pipeline.platforms.network import AccessError
from trainer.errors import InputError, WalsError, translated

_TOKEN = "KUBEFLOW_TOKEN"  # noqa: S105 - the variable's name
_FOREIGN = (
    "the answer does not come from Kubeflow Pipelines; give the address of its UI, "
    f"and put a token into {_TOKEN} if it is behind a login page"
)
_PAGE, _MOST_PAGES = 100, 1000
_TYPES: Mapping[str, Any] = {
    "str": (str, int, float),
    "int": (int, str),
    "float": (int, float),
    "bool": bool,
    "datetime": str,
    "list": list,
    "dict": dict,
}
# A log may take longer than other answers.
_ANSWER_SECONDS = 120.0
_HEALTH = ("/apis/v1beta1/healthz", "/apis/v2beta1/healthz")  # servers after 2.17 have only the second


class ForeignError(Exception):
    """An answer that does not come from Kubeflow Pipelines, such as a login page.

    Its text, if any, says which field of the answer is not as it is documented.
    """


class _Bounded:
    """Connections whose answers have a largest size, and a longest time from request to end."""

    def __init__(self, pools: urllib3.PoolManager, host: str) -> None:
        self._pools, self._host = pools, host

    def request(self, method: str, url: str, **options: Any) -> urllib3.HTTPResponse:
        """Return the answer to a request, with its body.

        Raises:
            WalsError: it is too large or takes too long.
        """
        unread = {**options, "preload_content": False}
        return whole(lambda: self._pools.request(method, url, **unread), self._host, _ANSWER_SECONDS)


class Client(kfp_server_api.ApiClient):  # type: ignore[misc]
    """A client that accepts only JSON: the published one turns any other text into an empty object.

    A server that requires a token gets the one in the environment variable ``KUBEFLOW_TOKEN``.

    Attributes:
        host: address of the server.
    """

    def __init__(self, host: str) -> None:
        configuration = kfp_server_api.Configuration(host=host.rstrip("/"))
        configuration.retries = False
        token = os.environ.get(_TOKEN)
        if token:
            configuration.api_key = {"authorization": token}
            configuration.api_key_prefix = {"authorization": "Bearer"}
        super().__init__(configuration)
        self.rest_client.pool_manager = _Bounded(self.rest_client.pool_manager, host)
        self.host = host

    def deserialize(self, response: Any, response_type: Any) -> Any:
        """Return an answer as an object of the API."""
        _check(_json_object(response.data), response_type, "")
        try:
            return super().deserialize(response, response_type)
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            raise ForeignError from error

    def read(self, path: str, query: Mapping[str, str] | None = None) -> str:
        """Return the text that the server has at a path that the published client has no method for."""
        return self.read_bytes(path, query).decode("utf-8", "replace")

    def read_bytes(self, path: str, query: Mapping[str, str] | None = None) -> bytes:
        """Return what the server has at a path that the published client has no method for."""
        return bytes(self._get(path, TIMEOUT, query).data)

    def post(self, address: str, body: bytes, content_type: str) -> urllib3.HTTPResponse:
        """Return the answer to a request that the published client has no method for."""
        headers = {**self._access(), "Content-Type": content_type}
        answer = self.rest_client.POST(address, headers=headers, body=body, _request_timeout=TIMEOUT)
        response: urllib3.HTTPResponse = answer.urllib3_response
        return response

    def health(self) -> Mapping[str, Any]:
        """Return what the server reports about itself."""
        for path in _HEALTH:
            try:
                # A pair, because the client accepts a single number only if it is whole.
                return _json_object(self._get(path, (CONNECT_SECONDS, CONNECT_SECONDS)).data)
            except kfp_server_api.ApiException as error:
                if error.status != 404:
                    raise
        raise ForeignError

    def errors(self, what: str) -> contextlib.AbstractContextManager[None]:
        """Return a context that turns the server's errors into one line about ``what``, a kind and a name."""
        kind, _, name = what.partition(" ")

        def answered(error: kfp_server_api.ApiException) -> WalsError:
            if error.status == 404 and name:
                return InputError(kind, name, f"does not exist on {self.host}", "list the existing ones")
            if error.status in (401, 403):
                return AccessError(f"{self.host}: denies access; put a valid token into {_TOKEN}")
            if error.status in (301, 302, 303, 307, 308):
                return WalsError(f"{self.host}: {_FOREIGN}")
            return WalsError(f"{what}: {self.host} answers {error.status}: {_message(error)}")

        unreachable = f"{self.host}: cannot be reached; start the server or its port-forward"
        return translated(
            (kfp_server_api.ApiException, answered),
            (urllib3.exceptions.HTTPError, lambda _: WalsError(unreachable)),
            (ForeignError, lambda error: WalsError(f"{self.host}: {_field_problem(error) or _FOREIGN}")),
        )

    def _get(self, path: str, timeout: tuple[float, float], query: Mapping[str, str] | None = None) -> Any:
        return self.rest_client.GET(
            self.configuration.host + path,
            headers=self._access(),
            query_params=query,
            _request_timeout=timeout,
        )

    def _access(self) -> dict[str, str]:
        token = self.configuration.get_api_key_with_prefix("authorization")
        return {"authorization": token} if token else {}


def pages(call: Callable[..., Any], *place: str, **where: str) -> Iterator[Any]:
    """Yield all pages of a list.

    Args:
        call: the client's method.
        place: positional arguments of the method.
        where: keyword arguments of the method.

    Raises:
        ForeignError: the list does not end.
    """
    tokens = {""}
    token = ""
    while True:
        page = call(*place, **where, page_size=_PAGE, page_token=token, _request_timeout=TIMEOUT)
        yield page
        token = page.next_page_token
        if not token:
            return
        if token in tokens or len(tokens) == _MOST_PAGES:
            raise ForeignError
        tokens.add(token)


def given(answer: Any, field: str) -> Any:
    """Return a field of an answer that the server must have set.

    Raises:
        ForeignError: it is missing or empty.
    """
    value = getattr(answer, field)
    if not value:
        raise ForeignError(f"{field} is missing")
    return value


def _check(content: Any, kind: str, place: str) -> None:
    """Check a part of an answer, since the published models convert whatever they are given.

    Args:
        content: the part; None stands for one that is missing.
        kind: its type, as the published models name them.
        place: its path in the answer.

    Raises:
        ForeignError: it is not of the type.
    """
    if content is None or kind == "object":
        return
    model: Any = getattr(kfp_server_api.models, kind, None)
    # Enumerations are models without fields.
    other = dict if getattr(model, "openapi_types", {}) else str
    types = _TYPES.get(re.split(r"[\[(]", kind)[0], other)
    if not isinstance(content, types) or (isinstance(content, bool) and kind != "bool"):
        raise ForeignError(f"{place or 'the answer'} is not of the type {kind}")
    if kind == "datetime":
        _check_time(content, place)
    elif kind.startswith("list["):
        for number, part in enumerate(content):
            if part is None:
                raise ForeignError(f"{place}[{number}] is missing")
            _check(part, kind[len("list[") : -1], f"{place}[{number}]")
    elif kind.startswith("dict("):
        for name, part in content.items():
            _check(part, kind.partition(", ")[2][:-1], f"{place}.{name}")
    elif other is dict and model:
        for attribute, name in model.attribute_map.items():
            _check(content.get(name), model.openapi_types[attribute], f"{place}.{name}".lstrip("."))


def _check_time(text: str, place: str) -> None:
    try:
        zone = datetime.fromisoformat(text).tzinfo
    except ValueError:
        zone = None
    if zone is None:
        raise ForeignError(f"{place} is not a time")


def _field_problem(error: ForeignError) -> str:
    problem = str(error)
    return f"returned an unexpected response: {problem}" if problem else ""


def _json_object(text: str) -> Mapping[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ForeignError from error
    if not isinstance(content, dict):
        raise ForeignError
    return content


def _message(error: kfp_server_api.ApiException) -> str:
    """Return the server's message, from its JSON if it sent some."""
    try:
        body: Mapping[str, Any] = json.loads(error.body)
        return str(body.get("message") or body.get("error") or error.reason)
    except (TypeError, ValueError, AttributeError, RecursionError):
        return str(error.body or error.reason)
