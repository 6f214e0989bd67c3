"""One file per revision, ``r<number>_<what>.py``. A released one is never changed."""
