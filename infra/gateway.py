"""One call to one member: etcd's JSON gateway over mutual TLS, its health and metrics, inside the lab's namespace.

With authentication on the gateway refuses the lab's certificate; then the same call goes over gRPC (infra.grpc_calls).
"""

from __future__ import annotations

import functools
import http.client
import json
import ssl
import time
from collections.abc import Mapping
from typing import Final, Literal

from infra import grpc_calls
from infra.manifest import CLIENT_PORT, METRICS_PORT, OBSERVER_PORTS, Node
from machine import netns
from machine.errors import LabError, NotBuiltError
from machine.paths import StackPaths

Kind = Literal["", "refused", "unreachable", "timeout", "tls", "etcd", "protocol"]
"""Why a call failed: nobody listens; no way there; no answer in time; certificates; etcd's own refusal; nonsense."""

_HEALTHY: Final = ("true", True)

_AUTH_REFUSAL: Final = "CommonName of client sending a request against gateway"
"""How the gateway refuses when authentication is on (E server/embed/serve.go; 3.4 to 3.7)."""

_GRPC_KINDS: Final[Mapping[str, tuple[Kind, int]]] = {
    "DEADLINE_EXCEEDED": ("timeout", 0),
    "UNAVAILABLE": ("protocol", 0),
    "UNIMPLEMENTED": ("etcd", http.client.NOT_FOUND),
}


class CallError(LabError):
    """A call to a member failed; `kind` says how, `status` is the HTTP status where there was one."""

    def __init__(self, what: str, kind: Kind, *, status: int = 0) -> None:
        super().__init__(what)
        self.kind: Kind = kind
        self.status = status

    def __str__(self) -> str:
        return self.what


class Gateway:
    """Calls to the members of the lab whose files are at `paths`, from inside `namespace` (None: from here)."""

    def __init__(self, namespace: str | None, paths: StackPaths) -> None:
        self._namespace = namespace
        self._paths = paths
        self._auth = False

    @property
    def auth_met(self) -> bool:
        """Whether a member refused the gateway's way because authentication is on; `auth_on` asks anew."""
        return self._auth

    @property
    def namespace(self) -> str | None:
        """The network namespace that calls are made from."""
        return self._namespace

    @functools.cached_property
    def tls(self) -> ssl.SSLContext:
        """TLS as the lab's client speaks it. Raises NotBuiltError when its files cannot be read."""
        paths = self._paths
        try:
            context = ssl.create_default_context(cafile=str(paths.ca_cert))
            context.load_cert_chain(str(paths.client_cert), str(paths.client_key))
        except OSError as error:
            raise NotBuiltError(
                f"The lab's certificates cannot be read: {error}", where=str(paths.dir), next="./lab up writes them."
            ) from error
        return context

    def post(self, node: Node, path: str, body: Mapping[str, object], seconds: float) -> Mapping[str, object]:
        """POST /v3/`path`; all of it, connecting included, takes at most about `seconds`. Raises CallError.

        With authentication on the call is made over gRPC, as the user that the certificate names; the answer is alike.
        """
        started = time.monotonic()
        if not self._auth:
            try:
                return self._post(node, path, body, seconds)
            except CallError as error:
                if _AUTH_REFUSAL not in error.what:
                    raise
                self._auth = True
        return self._over_grpc(node, path, body, max(0.1, seconds - (time.monotonic() - started)))

    def auth_on(self, node: Node, seconds: float) -> bool:
        """Whether authentication is on, as the gateway of this member has it now. Raises CallError."""
        try:
            self._post(node, "maintenance/status", {}, seconds)
        except CallError as error:
            if _AUTH_REFUSAL not in error.what:
                raise
            self._auth = True
        else:
            self._auth = False
        return self._auth

    def _post(self, node: Node, path: str, body: Mapping[str, object], seconds: float) -> Mapping[str, object]:
        text = self._exchange(node, "POST", f"/v3/{path}", seconds, body=json.dumps(body), tls=self.tls)
        return _document(text)

    def _over_grpc(self, node: Node, path: str, body: Mapping[str, object], seconds: float) -> Mapping[str, object]:
        address, where = str(node.address), f"{node.address}:{CLIENT_PORT}"
        if not grpc_calls.known(path):
            raise CallError(f"authentication is on, and the lab does not make the call {path} over gRPC", "protocol")
        files = grpc_calls.Files(self._paths.ca_cert, self._paths.client_cert, self._paths.client_key)
        deadline = time.monotonic() + seconds
        try:
            with netns.connect(self._namespace, address, CLIENT_PORT, seconds, source_ports=OBSERVER_PORTS) as plain:
                left = max(0.05, deadline - time.monotonic())
                return grpc_calls.call(plain, address, files, path, body, left)
        except grpc_calls.RefusedError as error:
            kind, status = _GRPC_KINDS.get(error.code, ("etcd", http.client.BAD_REQUEST))
            if kind == "timeout":
                raise classify(TimeoutError(), where, seconds) from error
            raise CallError(str(error) or f"gRPC status {error.code}", kind, status=status) from error
        except OSError as error:
            raise classify(error, where, seconds) from error

    def health(self, node: Node, seconds: float) -> tuple[bool, str]:
        """Whether `/health` says so, and its reason when not. Raises CallError when there is no answer."""
        try:
            answer = _document(self._exchange(node, "GET", "/health", seconds))
        except CallError as error:
            if error.status != http.client.SERVICE_UNAVAILABLE:
                raise
            return False, str(error).replace("HTTP status 503", "unhealthy, and does not say why")  # 3.4
        healthy = answer.get("health") in _HEALTHY
        return healthy, "" if healthy else str(answer.get("reason") or "unhealthy")

    def metrics(self, node: Node, seconds: float) -> str:
        """The metrics page; all of it takes at most about `seconds`. Raises CallError when it does not come."""
        return self._exchange(node, "GET", "/metrics", seconds)

    def _exchange(
        self,
        node: Node,
        method: str,
        path: str,
        seconds: float,
        *,
        body: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> str:
        address, port = str(node.address), CLIENT_PORT if tls else METRICS_PORT
        deadline = time.monotonic() + seconds
        connection = http.client.HTTPConnection(address, port)
        try:
            plain = netns.connect(self._namespace, address, port, seconds, source_ports=OBSERVER_PORTS)
            connection.sock = plain
            if tls is not None:
                connection.sock = tls.wrap_socket(plain, server_hostname=address)
            connection.sock.settimeout(max(0.05, deadline - time.monotonic()))
            connection.request(method, path, body, {"Content-Type": "application/json", "Connection": "close"})
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise classify(error, f"{address}:{port}", seconds) from error
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise CallError(_refusal(text, response.status), "etcd", status=response.status)
        return text


def classify(error: Exception, where: str, seconds: float) -> CallError:
    """A network failure in words that say what to look for."""
    if isinstance(error, TimeoutError):
        return CallError(f"no answer from {where} within {seconds:g} s", "timeout")
    if isinstance(error, ConnectionRefusedError):
        return CallError(f"connection to {where} refused: nobody listens there", "refused")
    if isinstance(error, ssl.SSLError):
        return CallError(f"TLS with {where} failed: {getattr(error, 'reason', None) or error}", "tls")
    if isinstance(error, ConnectionResetError | http.client.HTTPException):
        return CallError(f"connection to {where} broke: {error or type(error).__name__}", "protocol")
    if isinstance(error, OSError):
        return CallError(f"{where} cannot be reached: {error.strerror or error}", "unreachable")
    return CallError(f"{where}: {error}", "protocol")


def number(answer: Mapping[str, object], key: str) -> int:
    """A whole number of an answer; text or number, 0 when left out."""
    value = answer.get(key) or 0
    return int(value) if isinstance(value, str | int) else 0


def flag(answer: Mapping[str, object], key: str) -> bool:
    """A truth value of an answer; false when left out."""
    return answer.get(key) is True


def _document(text: str) -> Mapping[str, object]:
    try:
        answer = json.loads(text)
    except ValueError as error:
        raise CallError(f"the answer is no JSON: {text[:80]!r}", "protocol") from error
    if not isinstance(answer, dict):
        raise CallError(f"the answer is no object: {text[:80]!r}", "protocol")
    return answer


def _refusal(text: str, status: int) -> str:
    """etcd's own words in an error answer."""
    try:
        answer = json.loads(text)
    except ValueError:
        return f"HTTP status {status}: {text.strip()[:200]}"
    if isinstance(answer, dict):
        said = answer.get("message") or answer.get("error") or answer.get("reason")
        if said:
            return str(said)
    return f"HTTP status {status}"
