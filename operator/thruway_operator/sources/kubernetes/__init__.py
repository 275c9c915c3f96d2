"""A cluster as the source: routes, what they refer to, and the gateway's namespaces.

Contract: "the two sources are independent".
"""
