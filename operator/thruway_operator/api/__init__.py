"""`PassthroughRoute` and its neighbours as pydantic models: the one source of the schema.

Pure: no I/O, no clock. Wrong input raises pydantic's `ValidationError`, which `problems` turns into
sentences that name the field, the reason and the remedy.
"""
