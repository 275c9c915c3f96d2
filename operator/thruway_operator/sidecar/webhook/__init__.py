"""The injector in a cluster: kopf's admission webhook, and what the API server and pods need.

`server` serves the API server with the certificate in `tls`, `directory` knows the namespaces,
`bundle` maintains the CA in the webhook configuration, and `publisher` maintains the ConfigMap with
the operator's CA in the namespaces of pods. Only `sidecar.decide` decides how a pod changes.
Contract: "layers of the sidecar".
"""

from thruway_operator.sidecar.webhook.bundle import BundleKeeper
from thruway_operator.sidecar.webhook.directory import Directory
from thruway_operator.sidecar.webhook.publisher import CABundlePublisher
from thruway_operator.sidecar.webhook.server import AdmissionServer

__all__ = ["AdmissionServer", "BundleKeeper", "CABundlePublisher", "Directory"]
