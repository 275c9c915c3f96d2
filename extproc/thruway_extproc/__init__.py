"""The external processor: rewrites the headers and the path of one request.

A pure function of (request headers, the route's rule), in a thin gRPC shell. It never sees a body,
never holds a key, never talks to Kubernetes and keeps no state between requests.
"""
