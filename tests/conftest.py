"""What every room's tests rely on."""

import signal

# A shell starts background jobs with SIGINT ignored, and all that they start inherit it: the processes that tests
# interrupt would never notice. A handler of our own is not inherited; they start with the default again.
signal.signal(signal.SIGINT, signal.default_int_handler)
