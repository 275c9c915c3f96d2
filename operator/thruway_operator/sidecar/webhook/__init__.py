"""The injector in a cluster: an admission webhook by kopf, and what the API server and pods need.

`server` serves the API server, `tls` is its certificate, `directory` knows the namespaces, `bundle`
keeps the CA in the webhook configuration right, and `publisher` the ConfigMap with the operator's
CA in the namespaces of pods. What becomes of a pod is decided in `sidecar.decide` alone.
Contract: "layers of the sidecar".
"""

from thruway_operator.sidecar.webhook.bundle import BundleKeeper
from thruway_operator.sidecar.webhook.directory import Directory
from thruway_operator.sidecar.webhook.publisher import AuthorityPublisher
from thruway_operator.sidecar.webhook.server import AdmissionServer

__all__ = ["AdmissionServer", "AuthorityPublisher", "BundleKeeper", "Directory"]
