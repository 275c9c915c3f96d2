"""`PassthroughRoute` and its parts as pydantic models: the one source of the schema.

No I/O and no clock. Wrong input raises pydantic's `ValidationError`, which `problems` turns into
sentences that name the field, the reason and the remedy.
Contracts: "layers of the operator", "pure packages do no I/O".
"""
