"""The one exception that stands for a mistake a user can mend."""


class UserError(Exception):
    """Bad input; the message is one sentence naming the file, line, key or value and the fix."""


LOGGED = "its traceback is in train.log"  # the note of an exception that has been logged
