"""``python -m offhook`` is the command ``offhook``."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy would start a thread per core for work we do not give it

from offhook.cli.main import main

if __name__ == "__main__":
    main()
