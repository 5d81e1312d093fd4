"""`make fuzz`: inputs that reach new code, for so many seconds a target.

What breaks a target is written beside its corpus, as `found-…`: keep it there with the
fix. The one thing to know: `python -m tests.fuzz TARGET|all SECONDS`; libFuzzer
ends its process, so each target has its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile

SECONDS = 60


def _one(target: str, seconds: int) -> None:
    import atheris  # type: ignore[import-not-found]

    with atheris.instrument_imports(include=["bridge", "tests.fuzz", "tomllib"]):
        from tests.fuzz.targets import CORPUS, TARGETS
    folder = CORPUS / target
    arguments = [
        sys.argv[0],
        f"-max_total_time={seconds}",
        "-max_len=4096",
        "-print_final_stats=1",
        f"-artifact_prefix={folder}/found-",
        tempfile.mkdtemp(prefix=f"pgbridge-fuzz-{target}-"),  # what is new goes here
        str(folder),
    ]
    atheris.Setup(arguments, TARGETS[target])
    atheris.Fuzz()


def main() -> int:
    """One target as named, or all of them in turn."""
    chosen = sys.argv[1] if len(sys.argv) > 1 else "all"
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else SECONDS
    if chosen != "all":
        _one(chosen, seconds)
    from tests.fuzz.targets import TARGETS

    failed = 0
    for target in TARGETS:
        print(f"— {target}", flush=True)
        command = [sys.executable, "-m", "tests.fuzz", target, str(seconds)]
        failed |= subprocess.run(command, check=False).returncode
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
