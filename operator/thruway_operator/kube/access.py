"""The API server's address and our credentials: a pod's ServiceAccount, or a kubeconfig."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Access", "AccessError", "cluster_access", "load_access"]

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where kubelet puts a pod's token, CA and namespace (Kubernetes: "Accessing the API from a Pod").
"""


class AccessError(Exception):
    """There is no usable access to an API server; the message is a sentence for users."""


@dataclass(frozen=True, slots=True)
class Access:
    """How requests reach the API server.

    `authorization` returns the Authorization header's value, or "" for none. It is called for each
    request, because tokens in files are replaced while we run.
    """

    server: str
    tls: ssl.SSLContext | bool = field(repr=False)
    authorization: Callable[[], str] = field(repr=False)
    namespace: str = "default"
    server_name: str | None = None
    """The name that the server's certificate must contain, if not the one in `server`."""


def load_access(
    environment: Mapping[str, str], *, kubeconfig: str | None = None, context: str | None = None
) -> Access:
    """Return the access that kubectl would use here or, inside a pod, that of its ServiceAccount.

    Raises:
        AccessError: neither exists, or the one that exists is unusable.
    """
    named = kubeconfig or context or environment.get("KUBECONFIG")
    if not named and environment.get("KUBERNETES_SERVICE_HOST"):
        return cluster_access(environment)
    return _kubeconfig_access(kubeconfig or environment.get("KUBECONFIG"), context)


def cluster_access(environment: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> Access:
    """Return the access of the pod in which we run.

    Raises:
        AccessError: the pod has no ServiceAccount token.
    """
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    port = environment.get("KUBERNETES_SERVICE_PORT", "443")
    token = folder / "token"
    try:
        token.read_text()
        tls = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    except (OSError, ssl.SSLError) as error:
        raise AccessError(
            f"the pod's ServiceAccount cannot be read ({error}): set "
            "automountServiceAccountToken: true"
        ) from error
    namespace = _text(folder / "namespace") or "default"
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Access(
        server=f"https://{authority}",
        tls=tls,
        authorization=lambda: f"Bearer {_text(token)}",
        namespace=namespace,
    )


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _kubeconfig_access(path: str | None, context: str | None) -> Access:
    # The client library handles exec plugins, cloud providers and merged files.
    from kubernetes import client
    from kubernetes.config import ConfigException, kube_config
    from yaml import YAMLError

    library: Any = kube_config  # it has no types
    configuration: Any = client.Configuration()
    try:
        contexts, active = library.list_kube_config_contexts(config_file=path)
        library.load_kube_config(
            config_file=path, context=context, client_configuration=configuration
        )
    except (
        ConfigException,
        YAMLError,
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
    ) as error:
        raise AccessError(
            f"no usable kubeconfig: {_first_line(error)}: set KUBECONFIG or --kubeconfig to a "
            "file that works with kubectl"
        ) from error
    chosen = next((item for item in contexts if item["name"] == context), active)
    namespace = (chosen or {}).get("context", {}).get("namespace") or "default"

    def authorization() -> str:
        if configuration.refresh_api_key_hook:
            configuration.refresh_api_key_hook(configuration)
        return str(configuration.api_key.get("BearerToken", ""))

    return Access(
        server=configuration.host,
        tls=_tls(configuration),
        authorization=authorization,
        namespace=namespace,
        server_name=configuration.tls_server_name,
    )


def _tls(configuration: Any) -> ssl.SSLContext | bool:  # noqa: ANN401 - the library's
    if not configuration.host.startswith("https:"):
        return False
    try:
        tls = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        if not configuration.verify_ssl:
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        if configuration.cert_file:
            tls.load_cert_chain(configuration.cert_file, configuration.key_file)
    except (OSError, ssl.SSLError) as error:
        raise AccessError(
            f"the certificates in the kubeconfig are unusable: {_first_line(error)}"
        ) from error
    return tls


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
