"""One run on many hosts: every host starts the same command and joins the others.

Afterwards `jax.devices()` are those of all hosts, and the rest of the package is the same: steps
are jitted in global view, checkpoints are written by all hosts, text files by the first.
"""

import jax


def join(
    coordinator: str | None = None,
    *,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Waits for all hosts of the run; call it before anything else uses a device.

    Args:
      coordinator: HOST:PORT of the first host, a free port there; None on a TPU pod or under a
        cluster manager that JAX knows, which provide all three.
      num_processes: Number of hosts; needed with a coordinator.
      process_id: Index of this host, from 0; needed with a coordinator.

    Raises:
      ValueError: Some of the three are missing or wrong, or hosts do not find each other.
    """
    _check(coordinator, num_processes, process_id)
    # It would catch SIGTERM; a run that is stopped resumes from its last checkpoint anyway.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id)
    except (RuntimeError, ValueError) as error:
        where = f"--coordinator={coordinator}" if coordinator else "--distributed"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{where}: the hosts did not find each other ({reason}); start the same command on "
            "every host, each with its own --process_id"
        ) from error


def is_first() -> bool:
    """Whether this host is the one that writes text files and prints results."""
    return jax.process_index() == 0


def _check(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    given = [coordinator is not None, num_processes is not None, process_id is not None]
    if any(given) and not all(given):
        raise ValueError(
            "--coordinator=HOST:PORT, --num_processes=N and --process_id=I go together; on a TPU "
            "pod give --distributed instead of the three"
        )
    if coordinator is None or num_processes is None or process_id is None:
        return
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"--coordinator={coordinator}: must be HOST:PORT, such as 10.0.0.1:8476")
    if not 0 <= process_id < num_processes:
        raise ValueError(
            f"--process_id={process_id}: must be at least 0 and less than "
            f"--num_processes={num_processes}"
        )
