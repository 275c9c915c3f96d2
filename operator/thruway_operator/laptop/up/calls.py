"""One line for each call: converts a line of Envoy's JSON access log to readable text."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from thruway_extproc.mask import mask_query
from thruway_operator.text.safe import Redactor, mask_queries_in_text, printable, put_line

if TYPE_CHECKING:
    from datetime import tzinfo
    from typing import TextIO

__all__ = ["Call", "CallPrinter", "parse_call", "render_json", "render_text"]

_LIMIT = 2000  # characters kept of any value that a client chose
_TEXT_LIMIT = 200  # characters of them shown on a terminal
_LOG_LIMIT = 1000
# Envoy's response code details
_UPSTREAM_RESPONDED = ("via_upstream", "upstream_reset_after_response_started")
# Before the upstream's response or within it.
_ENDED = ("response_timeout", "stream_idle_timeout", "downstream_", "http1.", "http2.")
_DIM, _RESET = "\x1b[2m", "\x1b[0m"
_COLORS = {1: "\x1b[36m", 2: "\x1b[32m", 3: "\x1b[36m", 4: "\x1b[33m", 5: "\x1b[31m"}
_NO_STATUS = "\x1b[35m"  # the client disconnected before there was a status
_UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class Call:
    """One call as Envoy logged it; None: not known. Durations in ms, sizes in bytes.

    The fields are those of `envoy.listener.ACCESS_LOG`, and `upstream_status`.

    All texts are printable, redacted, and free of query values.
    """

    time: datetime | None
    method: str | None
    path: str | None
    protocol: str | None
    route: str | None
    client: str | None
    status: int | None
    upstream: str | None
    """`host:port` as in the route."""
    address: str | None
    """The address and port that Envoy tried last."""
    upstream_status: int | None
    duration_ms: int | None
    upstream_ms: int | None
    bytes_in: int | None
    bytes_out: int | None
    request_id: str | None
    """The client's `X-Request-Id`."""
    upstream_request_id: str | None
    code: str | None
    flags: str | None
    details: str | None
    """Envoy's description of what happened, if there is a code."""
    user_agent: str | None


def parse_call(line: bytes, redactor: Redactor | None = None) -> Call | None:
    """Return the call in a line of the access log; None if it contains none. Never raises."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not entry.keys() & {"method", "status", "time"}:
        return None

    def text(key: str) -> str | None:
        value = entry.get(key)
        if not isinstance(value, str) or value in ("", "-"):  # Envoy writes - for an absent value
            return None
        value = mask_query(value) if key == "path" else value
        return printable((redactor or Redactor()).redact(value), _LIMIT)

    address = text("address")
    status = _whole(entry.get("status")) or None  # Envoy writes 0 if there was none
    return Call(
        time=_time(entry.get("time")),
        method=text("method"),
        path=text("path"),
        protocol=text("protocol"),
        route=text("route"),
        client=text("client"),
        status=status,
        upstream=_upstream(text("upstream")),
        address=address if address and not address.startswith("envoy:") else None,  # a tunnel's
        upstream_status=status if _from_upstream(entry) else None,
        duration_ms=_whole(entry.get("duration_ms")),
        upstream_ms=_whole(entry.get("upstream_ms")),
        bytes_in=_whole(entry.get("bytes_in")),
        bytes_out=_whole(entry.get("bytes_out")),
        request_id=text("request_id"),
        upstream_request_id=text("upstream_request_id"),
        code=text("code"),
        flags=text("flags"),
        details=text("details") if text("code") else None,
        user_agent=text("user_agent"),
    )


def _upstream(cluster: str | None) -> str | None:
    """Return the `host:port` in the name of a cluster: `api.openai.com:443/…`."""
    host, _, port = (cluster or "").rpartition("/")[0].rpartition(":")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}" if host else None


def _from_upstream(entry: dict[str, Any]) -> bool:
    # Do not use the status: gRPC errors have status 200, including Thruway's own.
    details = entry.get("details")
    if not isinstance(details, str):
        return False
    began = _whole(entry.get("upstream_ms")) is not None
    return details.startswith(_UPSTREAM_RESPONDED) or (began and details.startswith(_ENDED))


def _whole(value: Any) -> int | None:  # noqa: ANN401 (whatever JSON held)
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        return None
    return round(number) if 0 <= number < 2**63 else None


def _time(value: Any) -> datetime | None:  # noqa: ANN401 (whatever JSON held)
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def render_json(call: Call) -> str:
    """Return the call as one JSON object; the time is ISO 8601 in UTC with milliseconds."""
    moment = call.time.isoformat(timespec="milliseconds") if call.time else None
    fields = asdict(call) | {"time": moment.replace("+00:00", "Z") if moment else None}
    return json.dumps({"event": "call"} | fields)


def render_text(call: Call, *, color: bool = False, zone: tzinfo | None = None) -> str:
    """Return the call as one line; `zone` None means local time."""
    moment = call.time.astimezone(zone) if call.time else None
    status = str(call.status or "—")
    which = f"{_cut(call.upstream)} " if call.upstream and call.code else ""
    answered = f"upstream {which}{call.upstream_status or '—'}"
    parts = [
        moment.strftime("%H:%M:%S.") + f"{moment.microsecond // 1000:03}" if moment else "—",
        f"{_cut(call.method):<4} {_cut(call.path)}",
        _cut(call.route),
        f"{_color_of(call.status)}{status}{_RESET}" if color else status,
        answered if call.upstream_status and not call.code else f"{answered} ({_why(call)})",
        _milliseconds(call.duration_ms),
        f"in {_size(call.bytes_in)}",
        f"out {_size(call.bytes_out)}",
        _cut(call.request_id or call.upstream_request_id),
    ]
    return "  ".join(parts)


def _cut(text: str | None) -> str:
    return printable(text, _TEXT_LIMIT) if text else "—"


def _why(call: Call) -> str:
    """Return why there is no complete upstream response: our code and Envoy's response flags."""
    return " ".join(filter(None, (call.code, call.flags)))[:_TEXT_LIMIT] or "answered by Thruway"


def _color_of(status: int | None) -> str:
    return _COLORS.get((status or 0) // 100, _NO_STATUS)


def _milliseconds(value: int | None) -> str:
    if value is None:
        return "—"
    return f"{value} ms" if value < 10_000 else f"{value / 1000:.1f} s"


def _size(count: int | None) -> str:
    """Return bytes in decimal units: `512 B`, `1.5 kB`."""
    if count is None:
        return "—"
    size, unit = float(count), 0
    while size >= 999.95 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{count} B" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


class CallPrinter:
    """Prints each line of the access log as a call; usable as an `on_stdout_line`.

    Another line is shown dimmed, or as `{"event": "log"}`. `closed` is True once the stream's
    reader is gone: from then on nothing is printed.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        color: bool,
        json: bool,
        redactor: Redactor | None = None,
        zone: tzinfo | None = None,
    ) -> None:
        self._stream, self._color, self._json = stream, color, json
        self._redactor, self._zone = redactor or Redactor(), zone
        self.closed = False

    def __call__(self, line: bytes) -> None:
        """Print one line, given without its line end."""
        call = parse_call(line, self._redactor)
        if call is None:
            shown = self._log_line(line)
        elif self._json:
            shown = render_json(call)
        else:
            shown = render_text(call, color=self._color, zone=self._zone)
        self.closed = self.closed or not put_line(self._stream, shown)

    def _log_line(self, line: bytes) -> str:
        if line.lstrip().startswith(b"{"):
            # The call was truncated or malformed, so its readable parts may be query values.
            text = f"an access log line of {len(line)} bytes that cannot be read"
        else:
            text = mask_queries_in_text(line.decode(errors="replace"))
            text = printable(self._redactor.redact(text), _LOG_LIMIT)
        if self._json:
            return json.dumps({"event": "log", "text": text})
        return f"{_DIM}{text}{_RESET}" if self._color else text
