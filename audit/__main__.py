"""`python -m audit`."""

import os

# Threads that wait for each other sleep instead of spinning: on a machine that is shared, spinning costs up to ten
# times the work. It counts only if it is set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from audit.cli import main

if __name__ == "__main__":
    main()
