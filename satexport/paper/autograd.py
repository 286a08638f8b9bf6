"""What PyTorch keeps for a backward pass: the memory that the SAT paper's figures are near."""

from __future__ import annotations

from satexport.measure.latency import make_noise
from satexport.models.family import Reference, Variant


def autograd_bytes(reference: Reference, variant: Variant) -> int | None:
    """Return the bytes of all tensors that PyTorch keeps for a backward pass after one forward pass of one
    sample [1, window_samples] with autograd on and no cache. The weights do not count, and a tensor that
    several operations keep counts once."""
    import torch

    model = reference.model
    if model is None:
        return None
    audio = torch.from_numpy(make_noise(1, variant.window_samples)[0])
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}   # by address, which stays taken as long as it is here

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    model.requires_grad_(True)
    try:
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model(audio)
    finally:
        model.requires_grad_(False)
    return sum(storage.nbytes() for storage in kept.values())
