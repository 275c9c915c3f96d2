"""The demonstration upstream, for users without a key: OpenAI's formats with invented content.

Contract: "layers of the laptop".
"""
