"""What holds for all tests."""

import os
import signal

# A runner started by nohup, or in the background of a script, ignores these, and so would every job that a test starts.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

# torch.compile would start a pool of processes, one a core, for one small function; whatever a test starts inherits this.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
