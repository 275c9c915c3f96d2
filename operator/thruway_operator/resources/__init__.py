"""What sources produce and translation reads: resources, secret values, identities.

Contracts: "layers of the operator", "pure packages do no I/O".
"""
