"""Reads, translates and publishes the laptop's configuration, again whenever a file changes."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from thruway_operator.envoy.fragments import assemble, render_fragments
from thruway_operator.laptop.up.view import changes, complaints, slips
from thruway_operator.translate import Translation, translate
from thruway_operator.xds import XdsServer

if TYPE_CHECKING:
    from thruway_operator.laptop.up.console import Notice
    from thruway_operator.sources.files.network import Setting
    from thruway_operator.sources.files.watch import FileSource, Reading
    from thruway_operator.text.safe import Redactor
    from thruway_operator.translate import Resources

__all__ = ["GROUP", "Feed"]

GROUP = "laptop"
"""The one group of proxies that `thruway up` serves."""

_LOOK = 0.1
"""Seconds between two checks of the files. A change counts once two consecutive checks agree, so
that a file is not read while it is being written."""


class Feed:
    """Publishes the routes, and reports each of their problems once."""

    def __init__(
        self, setting: Setting, system_ca: str, notice: Notice, redactor: Redactor
    ) -> None:
        self.xds = XdsServer(
            partial(assemble, keep_browsers_out=setting.loopback, allowed_origins=setting.origins),
            group_of=lambda _: GROUP,
            on_change=self._proxy_changed,
        )
        self._setting = setting
        self._system_ca = system_ca
        self._notice = notice
        self._redactor = redactor
        self._translation: Translation | None = None
        self._said: dict[str, str] = {}
        self._rejected: dict[str, str] = {}

    def publish(self, resources: Resources) -> Translation:
        """Translate and publish, without reporting problems."""
        translation = self._translate(resources)
        for secret in translation.config.secret_values():
            self._redactor.register(secret.reveal())
        self.xds.publish(GROUP, render_fragments(translation.config, self._system_ca))
        self._translation = translation
        return translation

    def _translate(self, resources: Resources) -> Translation:
        return translate(self._setting.apply(resources))

    def said(self, reading: Reading | None, translation: Translation) -> list[str]:
        """Return the current problems, and remember that they were reported."""
        self._said = _wrong(reading, translation)
        return list(self._said.values())

    async def follow(self, source: FileSource) -> None:
        """Reload whenever the files differ from those last read, until cancelled."""
        seen = source.last_read
        while True:
            await asyncio.sleep(_LOOK)
            look = source.state()
            if look != source.last_read and look == seen:
                self._reload(source.read(self._translate))
            seen = look

    def _reload(self, reading: Reading) -> None:
        before = self._translation
        translation = self.publish(reading.resources)
        wrong = _wrong(reading, translation)
        for key, text in wrong.items():
            if self._said.get(key) != text:
                self._notice.error(text)
        healed = [key for key in self._said if key not in wrong]
        self._said = wrong
        what = changes(before, translation) if before else ""
        if what:
            self._notice.info(f"Reloaded: {what}.")
        elif healed and not wrong:
            self._notice.info("Reloaded: all problems are fixed.")

    def _proxy_changed(self, group: str) -> None:
        """Report which routes Envoy itself rejected, each once."""
        status = self.xds.status(group)
        rejected = {
            name: fragment.rejected
            for name, fragment in status.fragments.items()
            if fragment.rejected
        }
        if status.error:
            rejected[""] = status.error
        for name, message in rejected.items():
            if self._rejected.get(name) != message:
                what = f"route {name}" if name else "the configuration"
                self._notice.error(f"{what} was rejected by Envoy: {message}")
        self._rejected = rejected


def _wrong(reading: Reading | None, translation: Translation) -> dict[str, str]:
    wrong: dict[str, str] = {}
    placed = reading.routes if reading else {}
    for problem in reading.problems if reading else []:
        stays = problem.file in reading.served if reading else False
        kept = "Its last good state is still served" if stays else "Nothing of it is served yet"
        wrong[f"{problem.file}:{problem.line}:{problem.message}"] = f"{problem}. {kept}."
    for name, text in (complaints(translation.verdicts) | slips(translation.verdicts)).items():
        where = ""
        if name in placed:
            document = placed[name].document
            where = f"{document.file}:{document.line(('spec',))}: "
        wrong[name] = f"{where}route {name}: {text}"
    return wrong
