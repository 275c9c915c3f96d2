"""The xDS protocol as pure objects: requests, snapshots and the time in; responses out.

Contract: "pure packages do no I/O".
"""
