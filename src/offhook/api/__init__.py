"""The HTTP server: what is asked of offhook from outside, under ``/api``. One table of endpoints is all there is of it.

Routing, keys and scopes, reading, OpenAPI and the tests of every route come from that table.
"""
