"""Reads, translates and publishes the laptop's configuration, again whenever a file changes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

from thruway_operator.envoy.fragments import Renderer, assemble
from thruway_operator.laptop.up.view import changes, complaints, slips
from thruway_operator.translate import Translation, Translator
from thruway_operator.translate.groups import LAPTOP
from thruway_operator.xds import XdsServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from thruway_operator.laptop.up.console import Notice
    from thruway_operator.sources.files.network import Setting
    from thruway_operator.sources.files.watch import FileSource, Reading
    from thruway_operator.text.safe import Redactor
    from thruway_operator.translate import Resources

__all__ = ["Feed"]

T = TypeVar("T")

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
            group_of=lambda _: LAPTOP,
            on_change=self._proxy_changed,
        )
        self._setting = setting
        self._translator = Translator()
        self._renderer = Renderer(system_ca)
        self._notice = notice
        self._redactor = redactor
        self._translation: Translation | None = None
        self._said: dict[str, str] = {}
        self._rejected: dict[str, str] = {}

    def translate(self, resources: Resources) -> Translation:
        """Translate what was read. This resolves host names, so it may take long."""
        return self._translator.translate(self._setting.apply(resources))

    def publish(self, translation: Translation) -> None:
        """Serve a translation, without reporting problems."""
        for secret in translation.config.secret_values():
            self._redactor.register(secret.reveal())
        rendered = self._renderer.render({LAPTOP: translation.config})
        self.xds.publish(LAPTOP, rendered[LAPTOP])
        self._translation = translation

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
                self._reload(await _in_thread(partial(source.read, self.translate)))
            seen = look

    def _reload(self, reading: Reading) -> None:
        before, translation = self._translation, reading.translation
        assert translation is not None  # noqa: S101 (`follow` reads with a translator)
        self.publish(translation)
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


async def _in_thread(work: Callable[[], T]) -> T:
    """Return the result of `work`, during which the event loop continues.

    Not `asyncio.to_thread`, whose threads are waited for at exit: a slow DNS server would delay it.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, error: Exception | None) -> None:
        if done.done():  # cancelled meanwhile
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(cast("T", result))

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except Exception as raised:  # noqa: BLE001 - raised again in the event loop
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(finish, result, error)

    threading.Thread(target=run, name="reload", daemon=True).start()
    return await done


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
