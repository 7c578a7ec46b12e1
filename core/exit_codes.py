"""Exit codes of `alexnet`."""

OK = 0  # run: the model was pushed, or a part of the pipeline ran as asked
FAILURE = 1  # something broke that is not the user's mistake; the log has the details
USER_ERROR = 2  # what the user can mend: a wrong argument, setting or input, a full disk, a missing permission
NOT_PUSHED = 3  # run: it ran to the end, but the model did not pass its gates and was not pushed
WAITING = 4  # run: the model passed its gates and waits for approval (push.approval: manual)
INTERRUPTED = 130  # Ctrl-C
UNREAD = 141  # whoever read standard output has gone, as with `| head -1`; what a shell says of other programs then
