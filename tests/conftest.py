"""What holds for all tests."""

import signal

# A runner started by nohup, or in the background of a script, ignores these, and so would every job that a test starts.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
