"""Server-sent events to (event name, data) pairs, strictly: what our streams may hold, not what a reader would forgive."""


def split(raw):
    """(events, faults) of a stream's bytes.  Comments are dropped.  An id line is a fault: some clients fail after one."""
    out, faults = [], []
    text = raw.decode("utf-8")
    if text and not text.endswith("\n\n"):
        faults.append(f"the stream's last event is not closed: {text[-60:]!r}")
    if "\r" in text:
        faults.append("a carriage return")
    for block in text.split("\n\n"):
        name, data = None, []
        for line in block.split("\n"):
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                data.append(line[6:])
            elif line and not line.startswith(":"):
                faults.append(f"a line that is neither event nor data: {line[:60]!r}")
        if len(data) > 1:
            faults.append("an event with two data lines")
        if data:
            out.append((name, data[0]))
        elif name:
            faults.append(f"event {name} without data")
    return out, faults
