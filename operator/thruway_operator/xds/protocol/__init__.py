"""The xDS protocol as pure objects: requests, snapshots and the time go in, responses come out.

Contract: "pure packages do no I/O".
"""
