"""Tells what a quilt worker's server has written, and where it could write to, as JSON. Run in its container."""

import errno
import json
import pathlib

HOME = pathlib.Path("/home/worker")
DATA = HOME / ".local/share/Quilt"


def refusal(path):
    """The name of the error of writing to a path, or nothing."""
    try:
        pathlib.Path(path).write_text("x")
    except OSError as error:
        return errno.errorcode[error.errno]
    return None


files = [str(path.relative_to(HOME)) for path in HOME.rglob("*") if path.is_file()]
places = ["/written", "/opt/quilt-venv/written", "/patchbay/written", f"{DATA}/config.yml"]
state = {
    # the index of the machine's fonts is a library's own
    "home": sorted(name for name in files if not name.startswith(".cache/fontconfig/")),
    "refusals": {path: refusal(path) for path in places},
    "session": json.loads((DATA / "auth.json").read_text()),
    "aws": json.loads((DATA / "credentials.json").read_text()),
}
print(json.dumps(state))
