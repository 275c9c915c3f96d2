"""Keeps the certificates in a Secret current, its CAs in a ConfigMap, and both in files.

The chart creates both objects empty, and the first replica fills them. kubelet takes a minute to
update a Secret in a pod, and a starting pod with an empty Secret would have to wait for that. So
the operator writes the files itself.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import datetime as dt
import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from thruway_operator.controller.certificates.policy import Held, Terms, renew
from thruway_operator.kube import ApiError, KubeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from thruway_operator.kube import KubeClient

__all__ = ["CertificateKeeper"]

_log = logging.getLogger("thruway.certificates")

_EVERY: Final = 10.0
"""Seconds between two checks."""
_AGAIN: Final = 1.0
"""Seconds between two attempts while there is no certificate to serve."""
_CONFLICTS: Final = 3
"""How often a check is repeated immediately after a conflict."""
_SERVED: Final = ("tls.crt", "tls.key", "ca.crt")


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class CertificateKeeper:
    """The keeper of one replica. `folder` gets `tls.crt`, `tls.key`, `ca.crt`, all at once."""

    def __init__(
        self,
        client: KubeClient,
        *,
        namespace: str,
        secret: str,
        config_map: str,
        folder: Path,
        terms: Terms,
        every: float = _EVERY,
        clock: Callable[[], dt.datetime] = _now,
    ) -> None:
        base = f"/api/v1/namespaces/{namespace}"
        self._client = client
        self._secret = f"{base}/secrets/{secret}"
        self._config_map = f"{base}/configmaps/{config_map}"
        self._folder = folder
        self._terms = terms
        self._every = every
        self._clock = clock
        self._said = ""
        self._written: dict[str, str] = {}

    async def first(self) -> None:
        """Return once there is a certificate to serve."""
        done = await self._try()
        while not done:
            await asyncio.sleep(_AGAIN)
            done = await self._try()

    async def run(self) -> None:
        """Keep everything current until cancelled."""
        while True:
            await asyncio.sleep(self._every)
            await self._try()

    async def _try(self) -> bool:
        try:
            await self._check_until_agreed()
        except KubeError as error:
            problem = f"the certificates of xDS cannot be kept current: {error}"
            if problem != self._said:
                _log.warning("%s; retrying", problem)
            self._said = problem
            return False
        self._said = ""
        return True

    async def _check_until_agreed(self) -> None:
        """Check again after a conflict: another replica was faster, so there may be less to do."""
        for _ in range(_CONFLICTS):
            try:
                return await self._check()
            except ApiError as error:
                if error.status != 409:
                    raise
        return await self._check()

    async def _check(self) -> None:
        found = await self._client.get(self._secret)
        data = _texts(found)
        before = Held.read(data)
        held = renew(before, self._terms, self._clock())
        texts = held.write()
        if texts != data:
            await self._client.request("PUT", self._secret, body=_filled(found, texts))
            _log_changes(before, held)
        # Publish the CA before serving the certificate: proxies must always trust it.
        await self._publish(texts["ca.crt"])
        self._store({name: texts[name] for name in _SERVED})

    async def _publish(self, authorities: str) -> None:
        found = await self._client.get(self._config_map)
        if (found.get("data") or {}).get("ca.crt") == authorities:
            return
        body = {**found, "data": {"ca.crt": authorities}}
        await self._client.request("PUT", self._config_map, body=body)

    def _store(self, texts: dict[str, str]) -> None:
        """Replace the files like kubelet does: by swapping a link to their folder."""
        if texts == self._written:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix="..", dir=self._folder))
        for name, text in texts.items():
            path = fresh / name
            path.touch(0o600)
            path.write_text(text, encoding="utf-8")
        link, data = self._folder / "..new", self._folder / "..data"
        link.unlink(missing_ok=True)
        link.symlink_to(fresh.name)
        old = data.readlink() if data.is_symlink() else None
        link.rename(data)
        for name in texts:
            visible = self._folder / name
            if not visible.is_symlink():
                visible.symlink_to(f"..data/{name}")
        if old:
            shutil.rmtree(self._folder / old, ignore_errors=True)
        self._written = texts


def _log_changes(before: Held, after: Held) -> None:
    if after.authority is not None and after.authority is not before.authority:
        _log.info("signing with a CA that expires on %s", after.authority.ends.date())
    if after.successor is not None and after.successor is not before.successor:
        _log.info("created the next CA, which will sign once all proxies trust it")
    if after.serving is not None and after.serving is not before.serving:
        _log.info("issued a certificate that expires on %s", after.serving.ends.date())


def _texts(secret: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in (secret.get("data") or {}).items():
        try:
            found[name] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            found[name] = ""
    return found


def _filled(secret: dict[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    data = {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}
    return {**secret, "data": data}
