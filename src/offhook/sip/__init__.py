"""SIP without I/O: bytes and values in, values and bytes out (RFC 3261 and friends). A body is bytes here."""
