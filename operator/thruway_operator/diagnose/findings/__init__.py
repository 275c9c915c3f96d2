"""Draws the conclusions of doctor and check: facts in, findings out, with the time passed in.

`walk` follows the chain from the API server to the upstream and stops at the first fault.
Contracts: "layers of diagnosis", "pure packages do no I/O".
"""
