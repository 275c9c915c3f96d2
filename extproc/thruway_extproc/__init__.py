"""The external processor: rewrites the headers and the path of one request.

It is a pure function of the request headers and the route's rule, in a thin gRPC shell. It never
sees a body, never holds a key, never talks to Kubernetes and keeps no state between requests.
Contracts: "extproc and pod never import the operator", "pure packages do no I/O".
"""
