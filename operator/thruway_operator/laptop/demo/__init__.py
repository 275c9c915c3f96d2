"""The demonstration upstream, for people without a key: OpenAI's shapes with made-up content.

Contract: "layers of the laptop".
"""
