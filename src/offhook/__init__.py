"""offhook: AI voice agents on the phone, over SIP, in one process."""

__version__ = "0.1.0"
