"""Text that people read: redaction and colors. Small; imports nothing of ours.

Contracts: "layers of the operator", "pure packages do no I/O".
"""
