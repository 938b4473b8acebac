"""A server that a test starts itself, and ends."""
import os
import re
import signal
import subprocess
import time


class Server:
    """Listens at port, by itself chosen, once this is made; what it says goes to FOLDER/log."""

    def __init__(self, fathom, model, folder, *options):
        self.log = os.path.join(folder, "log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([fathom, "serve", "-m", model, "--port", "0", *options], stderr=log)
        until, found = time.time() + 60, None
        while not found:
            if self.process.poll() is not None or time.time() > until:
                raise RuntimeError(f"it does not listen: {self.said().decode()}")
            time.sleep(0.02)
            found = re.search(rb"^listening on http://.*:(\d+)/v1$", self.said(), re.M)
        self.port = int(found[1])

    def said(self):
        with open(self.log, "rb") as f:
            return f.read()

    def end(self, how=signal.SIGTERM):
        """Its exit code."""
        self.process.send_signal(how)
        return self.process.wait()
