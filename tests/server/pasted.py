"""The examples of the documents, as they stand, against a running server.  usage: pasted.py PORT FILE…

Python blocks run in this interpreter, curl commands in a shell; only the port is another.  Prints what fails; exit code 1 then."""
import contextlib
import io
import json
import re
import subprocess
import sys

port, ran, wrong = sys.argv[1], {"python": 0, "curl": 0}, []
for name in sys.argv[2:]:
    text = open(name, encoding="utf-8").read().replace("127.0.0.1:8080", f"127.0.0.1:{port}")
    for code in re.findall(r"```python\n(.*?)```", text, re.S):
        if f":{port}" not in code:
            continue
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                exec(compile(code, name, "exec"), {"__name__": "__main__"})
        except Exception as e:  # whatever an example may meet
            wrong.append(f"{name}: {type(e).__name__}: {e}\n{code}")
        if not said.getvalue().strip():
            wrong.append(f"{name}: nothing was printed by\n{code}")
        ran["python"] += 1
    for command in re.findall(r"^curl (?:[^\n]*\\\n)*[^\n]*", text, re.M):
        if f":{port}" not in command or "SECRET" in command:
            continue
        got = subprocess.run(command, shell=True, capture_output=True, timeout=100)
        try:
            answers = [json.loads(x) for x in got.stdout.splitlines()]
            ok = got.returncode == 0 and answers and "error" not in answers[0]
        except ValueError:
            ok = False
        if not ok:
            wrong.append(f"{name}: {got.stdout[:300]} {got.stderr[-300:]}\n{command}")
        ran["curl"] += 1
if not all(ran.values()):
    wrong.append(f"no examples: {ran}")
print("\n".join(wrong))
sys.exit(bool(wrong))
