"""An agent put together from three parts: a recogniser (STT), a language model (LLM) and a voice (TTS).

``ports`` says what a part is; one file per vendor and part; ``pipeline`` makes a ``BridgeConnection`` of them.
"""
