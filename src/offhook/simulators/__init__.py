"""AI providers to practise with: each speaks its vendor's wire protocol to the letter, and what it says is a script.

For tests, benchmarks and ``offhook simulate``. Everything but the wire is the same for all: ``script`` says what
happens, ``actor`` plays it, ``voice`` is how it sounds, ``stage`` serves it. One file per provider translates.
"""
