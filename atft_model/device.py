"""The device, what a mode means on it, and its name for the record."""

from __future__ import annotations

import platform
from typing import Any

import torch

from atft_model.interchange.errors import ConfigError


def pick_device(name: str) -> torch.device:
    """The torch device of a request's `device`.

    Raises:
        ConfigError: a GPU was asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is 'cuda', but this machine has no usable GPU: use cpu or auto")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def optimized_gpu(mode: str, device: torch.device) -> bool:
    """Whether the mode changes the numerics here: `optimized` means something on a GPU only."""
    return mode == "optimized" and device.type == "cuda"


def compute_dtype(mode: str, device: torch.device) -> torch.dtype:
    """What a network computes in: bfloat16 under autocast in `optimized` on a GPU, float32 everywhere else."""
    return torch.bfloat16 if optimized_gpu(mode, device) else torch.float32


def set_mode(mode: str, device: torch.device) -> None:
    """`safe`: deterministic algorithms, full float32. `optimized`: TF32 matrix products where the device has them."""
    safe = mode == "safe"
    # a running sum along rows has no variant on a GPU that torch calls deterministic: there it warns instead of failing
    torch.use_deterministic_algorithms(safe, warn_only=device.type == "cuda")
    # a debugging aid of the deterministic mode that costs a tenth of a step
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device.type == "cpu":
        # flash attention's CPU kernel is made for long sequences: three times slower here
        torch.backends.cuda.enable_flash_sdp(False)
    if device.type == "cuda":
        torch.backends.cuda.enable_mem_efficient_sdp(not safe)
        torch.backends.cuda.enable_flash_sdp(not safe)
        torch.backends.cuda.enable_cudnn_sdp(False)  # plans every shape anew; these are thousands of tiny attentions
        torch.backends.cudnn.deterministic = safe
        torch.set_float32_matmul_precision("highest" if safe else "high")
        torch.backends.cudnn.allow_tf32 = not safe


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def hardware(device: torch.device) -> dict[str, Any]:
    """Names and sizes of what a run runs on."""
    found: dict[str, Any] = {
        "host": platform.node(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "device": device.type,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {"gpu": properties.name, "gpu_memory_gb": round(properties.total_memory / 1e9, 1)}
    return found


def gpu_uuid(device: torch.device) -> str | None:
    """The UUID by which CUDA knows a GPU; None of a processor, or where torch does not tell it."""
    if device.type != "cuda":
        return None
    found = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return None if found is None else str(found)


def versions() -> dict[str, str]:
    """Versions of Python, torch and CUDA."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    return found
