"""Text for people: redaction and colors. It is small, and imports no other package of ours.

Contracts: "layers of the operator", "pure packages do no I/O".
"""
