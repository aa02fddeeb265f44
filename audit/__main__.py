"""`python -m audit`."""

import os

# Threads that wait for each other sleep instead of spinning: on a machine that is shared, spinning costs up to ten
# times the work. Both count only if they are set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Large tensors in large pages: fresh small ones cost more time than what fills them.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

from audit.cli import main

if __name__ == "__main__":
    main()
