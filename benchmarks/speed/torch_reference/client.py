"""Client of the worker process; needs no PyTorch itself."""

import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[3]


class Worker:
    """A PyTorch process that lives as long as the context."""

    def __init__(self, python: str) -> None:
        self.python = python
        command = [python, "-m", "benchmarks.speed.torch_reference.worker"]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
            )
        except OSError as error:
            raise ValueError(f"--torch-python={python}: cannot be started ({error})") from error

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._process.communicate()  # The end of its requests ends the worker.

    def __call__(self, do: str, **request: Any) -> dict[str, Any]:
        """The answer to a request, see `worker.Worker`.

        Raises:
          ValueError: The process has no PyTorch, or has ended.
          RuntimeError: The request failed; with the worker's message.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps({"do": do, **request}) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise ValueError(
                f"--torch-python={self.python}: its process ended at {do!r} (status "
                f"{self._process.wait()}); give an interpreter that has PyTorch and NumPy"
            )
        found = json.loads(line)
        if "error" in found:
            raise RuntimeError(f"PyTorch, {do}: {found['error']}")
        return found
