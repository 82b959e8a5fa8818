"""What NVIDIA's driver says of its GPUs, through a binding of its library that the caller has imported.

Both sides read GPUs: the trainer while it trains, the assets before a training starts and for Prometheus. The binding
is `pynvml` of the package nvidia-ml-py (extra `gpu`); it is handed in, for the door knows no package but NumPy. What a
driver or a card does not tell is None here, and named in `unread`: an old driver lacks functions, a slice of a card has
no power of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

HOW_TO_INSTALL = "nvidia-ml-py is not installed: pip install -c constraints.txt '.[gpu]'"


class NoGpu(Exception):
    """No GPU can be read; the text says why."""


@dataclass(frozen=True)
class Gpu:
    """One GPU at one moment.

    Attributes:
        index: its place in the driver's list, which need not be that of CUDA.
        utilisation: share of the driver's last sample (a sixth of a second to a second) in which a kernel ran, 0 to 1.
        memory_used, memory_total: bytes, of all processes.
        watts: drawn now.
        celsius: of the chip.
        unread: what was not told, with the driver's reason.
    """

    index: int
    uuid: str
    name: str
    utilisation: float | None
    memory_used: int | None
    memory_total: int | None
    watts: float | None
    celsius: float | None
    unread: tuple[str, ...] = ()

    @property
    def memory_free(self) -> int | None:
        """Bytes that nobody holds."""
        if self.memory_used is None or self.memory_total is None:
            return None
        return self.memory_total - self.memory_used


class Gpus:
    """The driver's library, opened once; `close` gives it back."""

    def __init__(self, nvml: Any) -> None:
        """
        Args:
            nvml: the imported binding.

        Raises:
            NoGpu: there is no library, or no driver behind it.
        """
        self._nvml = nvml
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            raise NoGpu(f"NVIDIA's library does not answer: {error}") from error

    def close(self) -> None:
        """Give the library back."""
        try:
            self._nvml.nvmlShutdown()
        except self._nvml.NVMLError:
            return  # nothing is held any more

    def read(self) -> list[Gpu]:
        """Every GPU now.

        Raises:
            NoGpu: the driver does not even tell how many there are, or has lost one.
        """
        try:
            handles = [self._nvml.nvmlDeviceGetHandleByIndex(index) for index in range(self._nvml.nvmlDeviceGetCount())]
        except self._nvml.NVMLError as error:
            raise NoGpu(f"NVIDIA's driver names no GPU: {error}") from error
        return [self._gpu(index, handle) for index, handle in enumerate(handles)]

    def _gpu(self, index: int, handle: Any) -> Gpu:
        nvml, unread = self._nvml, []

        def told(what: str, question: Callable[..., Any], *arguments: Any) -> Any:
            try:
                return question(handle, *arguments)
            except nvml.NVMLError as error:
                unread.append(f"{what} ({error})")
                return None

        rates = told("utilisation", nvml.nvmlDeviceGetUtilizationRates)
        memory = told("memory", nvml.nvmlDeviceGetMemoryInfo)
        milliwatts = told("power", nvml.nvmlDeviceGetPowerUsage)
        celsius = told("temperature", nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU)
        return Gpu(
            index=index,
            uuid=told("uuid", nvml.nvmlDeviceGetUUID) or "",
            name=told("name", nvml.nvmlDeviceGetName) or "",
            utilisation=None if rates is None else rates.gpu / 100,
            memory_used=None if memory is None else int(memory.used),
            memory_total=None if memory is None else int(memory.total),
            watts=None if milliwatts is None else milliwatts / 1000,
            celsius=None if celsius is None else float(celsius),
            unread=tuple(unread),
        )


def chosen(gpus: list[Gpu], uuid: str | None) -> Gpu:
    """The GPU with a UUID, as CUDA names it (without `GPU-`); of a machine with one GPU, that one.

    Raises:
        NoGpu: none, or several of which none has this UUID.
    """
    for gpu in gpus:
        if uuid and gpu.uuid.removeprefix("GPU-") == uuid.removeprefix("GPU-"):
            return gpu
    if len(gpus) == 1:
        return gpus[0]
    raise NoGpu(f"NVIDIA's driver shows {len(gpus)} GPUs, and none of them is {uuid or 'named by CUDA'}")
