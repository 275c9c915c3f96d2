"""Reads resources from a cluster: routes, the objects they reference, the gateway's namespaces.

Contract: "the two sources are independent".
"""
