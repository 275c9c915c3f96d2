"""The private parts of kopf that the webhook relies on; pyproject.toml bounds its version."""

import inspect

import kopf


def test_the_method_that_builds_the_tls_context_can_be_overridden() -> None:
    assert list(inspect.signature(kopf.WebhookServer._build_ssl).parameters) == ["self"]
    assert "self._build_ssl()" in inspect.getsource(kopf.WebhookServer.__call__)
