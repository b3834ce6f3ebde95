"""A clock that jumps, for all Python code of a storm's processes.

libfaketime cannot do it: with the monotonic clock left alone `time.sleep` fails, and with both faked a jump
makes waits endless, which no jump of a real clock does.
"""

import struct
import subprocess
from pathlib import Path

LIBRARY, OFFSET = "wrong_clock.so", "offset"


def build_clock(folder: Path) -> bool:
    """Compile the library into a folder. False: there is no C compiler."""
    source = Path(__file__).with_suffix(".c")
    (folder / OFFSET).write_bytes(struct.pack("l", 0))
    try:
        told = ["cc", "-shared", "-fPIC", "-O1", "-o", str(folder / LIBRARY), str(source), "-ldl"]
        subprocess.run(told, check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def clock_environment(folder: Path) -> dict[str, str]:
    """What lets a process and its children see the clock of a folder."""
    return {"LD_PRELOAD": str(folder / LIBRARY), "STORM_CLOCK": str(folder / OFFSET)}


def set_clock(folder: Path, seconds: int) -> None:
    """Let the clock be wrong by so much, at once and for all."""
    with (folder / OFFSET).open("r+b") as file:  # in place: it is mapped
        file.write(struct.pack("l", seconds))
