"""Translates one route's spec to the IR."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from thruway_extproc.rule import CREDENTIAL_HEADERS, Rule, RuleError, encode
from thruway_operator import ir
from thruway_operator.api.presets import NO_PRESET, PRESETS
from thruway_operator.api.types import milliseconds
from thruway_operator.translate.certificates import find_certificate
from thruway_operator.translate.credentials import (
    LookupFailed,
    find_authority,
    find_clients,
    find_secret,
)
from thruway_operator.translate.forwardproxy import choose_proxy, find_login
from thruway_operator.translate.injected import (
    check_headers,
    credential_of,
    header_of,
    removed_by_proxy,
)
from thruway_operator.translate.overrides import check_unique, client_matches
from thruway_operator.translate.slips import slips_of
from thruway_operator.translate.translated import Translated
from thruway_operator.translate.upstream import Address, check_upstream, read_url
from thruway_operator.translate.verdict import Refused
from thruway_operator.translate.versions import final_version, inserted_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thruway_operator.api.route import (
        Credential,
        NameValue,
        PassthroughRoute,
        QueryNameValue,
        SecretHeader,
        Upstream,
    )
    from thruway_operator.resources.model import Resources

__all__ = ["translate_route"]


def translate_route(route: PassthroughRoute, resources: Resources) -> Translated:
    """Return the IR of one route.

    A branch whose references do not exist rejects requests; `failures` lists these references.

    Raises:
        Refused: the route cannot be served.
    """
    return _Translation(route, resources).run()


class _Translation:
    """One run: the route, what it may refer to, and the parts found so far."""

    def __init__(self, route: PassthroughRoute, resources: Resources) -> None:
        self._route = route
        self._spec = route.spec
        self._resources = resources
        self._preset = PRESETS[route.spec.provider] if route.spec.provider else NO_PRESET
        self._result = Translated(ir.Route(route.id, (), (), ()))

    def run(self) -> Translated:
        self._check_client_auth()
        spec = self._spec
        branches = [*self._overrides(), self._main()]
        clients = None
        if self._authenticates:
            try:
                clients = self._clients()
            except LookupFailed as failure:
                # Without the keys, no client can be identified, so none is admitted.
                refusal = self._refusal(failure)
                branches = [replace(branch, outcome=refusal) for branch in branches]
                self._result.failures.append(failure)
        self._result.route = ir.Route(
            id=self._route.id,
            hostnames=tuple(sorted(set(spec.hostnames))),
            methods=tuple(sorted(set(spec.request.methods))),
            branches=tuple(branches),
            clients=clients,
            error_format=ir.ErrorFormat(self._preset.error_format),
            key_header=(spec.client_auth.header or "").lower(),
            key_parameter=self._key_parameter,
            pages=ir.Pages(
                tuple(sorted(set(spec.allowed_origins))), local=self._resources.local_pages
            ),
        )
        self._result.slips = [message for _, message in slips_of(self._route, self._resources)]
        self._result.seal()
        return self._result

    @property
    def _authenticates(self) -> bool:
        return self._spec.client_auth.type == "APIKey"

    @property
    def _key_parameter(self) -> str:
        """The query parameter that may carry Thruway's key."""
        anywhere = self._authenticates and not self._spec.client_auth.header
        return self._preset.key_parameter if anywhere else ""

    def _drops_credentials(self, credential: object) -> bool:
        """Tell whether the client's credentials must not reach the upstream.

        If Thruway's key has its own header, the other credentials are meant for the upstream.
        """
        keys_anywhere = self._authenticates and not self._spec.client_auth.header
        return credential is not None or keys_anywhere

    def _check_client_auth(self) -> None:
        auth = self._spec.client_auth
        if auth.type == "None":
            if auth.secret_ref is not None:
                raise Refused(
                    "Invalid",
                    "spec.clientAuth.secretRef requires type APIKey: set it, or remove secretRef",
                )
            if auth.header is not None:
                raise Refused(
                    "Invalid",
                    "spec.clientAuth.header requires type APIKey: set it, or remove header",
                )
            if self._spec.exposure == "Cluster":
                raise Refused(
                    "ClientAuthRequired",
                    "exposure Cluster lets every pod in the cluster call, so spec.clientAuth is "
                    "required: set type APIKey with a secretRef",
                )
            if not self._resources.open_to_all:
                raise Refused(
                    "ClientAuthRequired",
                    "other machines can reach this proxy, so spec.clientAuth is required: set type "
                    "APIKey with a secretRef, or start with --api-key",
                )
            return
        if auth.secret_ref is None:
            raise Refused(
                "Invalid",
                "spec.clientAuth of type APIKey requires secretRef: name the Secret with the keys",
            )
        for index, override in enumerate(self._spec.overrides):
            if override.credential is None and auth.header is None:
                raise Refused(
                    "Invalid",
                    f"spec.overrides[{index}] requires a credential, because with clientAuth "
                    "the client's key is Thruway's and is not forwarded: set one, or "
                    "spec.clientAuth.header",
                )

    def _clients(self) -> tuple[ir.Client, ...]:
        ref = self._spec.client_auth.secret_ref
        name = ref.name if ref else ""
        return find_clients(self._resources, self._route.namespace, name)

    def _refusal(self, failure: LookupFailed) -> ir.Refusal:
        return ir.Refusal(503, failure.code, f"Route {self._route.id}: {failure.message}.")

    def _main(self) -> ir.Branch:
        upstream, where = self._spec.upstream, "spec.upstream"
        address = read_url(self._spec.upstream_url, f"{where}.url")
        return ir.Branch(
            name="",
            matches=(ir.Match(self._spec.path),),
            outcome=self._outcome(
                address,
                upstream,
                self._spec.credential,
                where,
                more_headers=self._spec.request.headers.set_from_secret,
            ),
        )

    def _overrides(self) -> list[ir.Branch]:
        overrides = self._spec.overrides
        check_unique(overrides)
        served = self._served_version()
        branches = []
        # The longest path first, and an exact path before its prefix, so that the closest wins.
        order = sorted(
            range(len(overrides)),
            key=lambda index: (
                -overrides[index].path.count("/"),
                overrides[index].match != "Exact",
                overrides[index].path,
            ),
        )
        for index in order:
            override, where = overrides[index], f"spec.overrides[{index}]"
            matches = client_matches(
                self._spec.path, served, override, where, self._preset.unversioned
            )
            upstream = override.upstream
            address = read_url(upstream.url or "", f"{where}.upstream.url")
            outcome = self._outcome(address, upstream, override.credential, f"{where}.upstream")
            branches.append(ir.Branch(override.path, tuple(matches), outcome))
        return branches

    def _served_version(self) -> str:
        """Return the version of upstream paths if the client names none, or ""."""
        if not self._spec.overrides:
            return ""
        base = read_url(self._spec.upstream_url, "spec.upstream.url").base
        return inserted_version(self._spec, self._spec.upstream, base) or final_version(base)

    def _outcome(
        self,
        address: Address,
        upstream: Upstream,
        credential: Credential | None,
        where: str,
        *,
        more_headers: Sequence[SecretHeader] = (),
    ) -> ir.Target | ir.Refusal:
        # First check the route itself, independently of what it refers to.
        check_upstream(upstream, address, where)
        namespace = self._route.namespace
        chosen = choose_proxy(self._resources, namespace, upstream, address, where)
        if (address.host.removesuffix("."), address.port) in self._resources.own_addresses:
            raise Refused(
                "Loop",
                f"{where}.url leads back to this proxy, so requests would loop forever: "
                "give the URL of the API",
            )
        injected = credential_of(namespace, credential, self._preset) if credential else None
        more = tuple(header_of(namespace, item) for item in more_headers)
        check_headers(self._spec, injected, more)
        version = inserted_version(self._spec, upstream, address.base)
        rule = self._rule(address, version, injected)
        timeouts = self._spec.timeouts
        connect_timeout = _connect_timeout(timeouts.connect)
        try:
            tls = self._tls(address, upstream)
            self._find_secrets([*([credential] if credential else []), *more_headers])
            if chosen and chosen.login:
                login = find_login(self._resources, namespace, chosen.login)
                self._result.secrets[chosen.proxy.login] = login
        except LookupFailed as failure:
            self._result.failures.append(failure)
            return self._refusal(failure)
        endpoint = ir.Endpoint(
            host=address.host,
            port=address.port,
            tls=tls,
            protocol=ir.Protocol(upstream.protocol),
            connect_timeout=connect_timeout,
            credential=injected,
            proxy=chosen.proxy if chosen else None,
            more_headers=more,
        )
        response = self._spec.response.headers
        return ir.Target(
            endpoint=endpoint,
            rule=rule,
            client_headers_removed=removed_by_proxy(
                self._spec.request.headers,
                endpoint.injected,
                drop_credentials=rule.drop_credentials,
            ),
            response=ir.HeaderRules(
                set=_headers(response.set),
                add=_headers(response.add),
                remove=tuple(name.lower() for name in response.remove),
            ),
            request_timeout=milliseconds(timeouts.request),
            idle_timeout=milliseconds(timeouts.idle),
            retry=self._retry(),
        )

    def _tls(self, address: Address, upstream: Upstream) -> ir.Tls | None:
        if not address.secure:
            return None
        tls = upstream.tls
        name = ""
        if tls.ca_certificate_ref is not None:
            bundle = find_authority(self._resources, self._route.namespace, tls.ca_certificate_ref)
            name = hashlib.blake2b(bundle.encode(), digest_size=8).hexdigest()
            self._result.authorities[name] = bundle
        client = ""
        if tls.client_certificate_ref is not None:
            namespace, ref = self._route.namespace, tls.client_certificate_ref
            client = f"{namespace}/{ref.name}"
            found = find_certificate(self._resources, namespace, ref.name)
            self._result.certificates[client] = found
        # Only DNS knows a trailing dot; SNI (RFC 6066, 3) and certificates have none.
        server_name = tls.server_name or address.host.removesuffix(".")
        return ir.Tls(server_name, tls.min_version, name, client)

    def _find_secrets(self, wanted: Sequence[Credential | SecretHeader]) -> None:
        for item in wanted:
            ref = item.secret_key_ref
            value = find_secret(self._resources, self._route.namespace, ref)
            self._result.secrets[f"{self._route.namespace}/{ref.name}/{ref.key}"] = value

    def _rule(self, address: Address, version: str, injected: ir.Credential | None) -> Rule:
        headers, query = self._spec.request.headers, self._spec.request.query
        drops = self._drops_credentials(injected)
        removed = [
            name.lower() for name in headers.remove if name.lower() not in CREDENTIAL_HEADERS
        ]
        removed_query = list(query.remove)
        if drops and self._preset.key_parameter:
            removed_query.append(self._preset.key_parameter)
        rule = Rule(
            strip=self._spec.path,
            base=address.base,
            version=version,
            authority=address.authority,
            drop_credentials=drops,
            client_auth=self._authenticates,
            headers_set=_headers(headers.set),
            headers_add=_headers(headers.add),
            headers_remove=tuple(dict.fromkeys(removed)),
            headers_only=tuple(dict.fromkeys(name.lower() for name in headers.forward_only)),
            query_default=_parameters(query.default),
            query_set=_parameters(query.set),
            query_remove=tuple(dict.fromkeys(removed_query)),
            unversioned=self._preset.unversioned if version else (),
        )
        try:
            encode(rule)
        except RuleError as error:
            raise Refused("RuleTooLarge", f"spec.request: {error}") from error
        return rule

    def _retry(self) -> ir.Retry | None:
        retries = self._spec.retries
        if not retries.attempts:
            return None
        on = sorted({_kebab(name) for name in retries.retry_on})
        return ir.Retry(retries.attempts, tuple(on))


def _connect_timeout(duration: str) -> int:
    value = milliseconds(duration)
    if value == 0:
        raise Refused(
            "Invalid",
            "spec.timeouts.connect must not be 0s, because a connection needs a limit: use "
            "one such as 5s",
        )
    return value


def _headers(items: Sequence[NameValue]) -> tuple[tuple[str, str], ...]:
    return tuple((item.name.lower(), item.value) for item in items)


def _parameters(items: Sequence[QueryNameValue]) -> tuple[tuple[str, str], ...]:
    return tuple((item.name, item.value) for item in items)


def _kebab(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
