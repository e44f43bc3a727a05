"""What every guidance function must satisfy, whatever it compares."""

import torch

STEP = 1e-6


def draw_images(count: int, *shape: int, seed: int) -> torch.Tensor:
    """Seeded images in [0.2, 0.8], float64 (count, 3, *shape), of several brightnesses."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(count, 3, *shape, generator=generator, dtype=torch.float64)
    return 0.2 + 0.6 * noise * torch.linspace(0.5, 1, count).double()[:, None, None, None]


def require_exact_gradient(function, images: torch.Tensor, targets) -> None:
    """The gradient along random directions is that of central differences, for each image."""
    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(leaf, targets).sum(), leaf)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        direction = torch.randn(images.shape, generator=generator, dtype=images.dtype)
        ahead, behind = (function(images + sign * STEP * direction, targets) for sign in (1, -1))
        expected = (ahead - behind) / (2 * STEP)
        found = (gradient * direction).flatten(1).sum(dim=1)
        assert (expected.abs() > 1e-4).all(), "a test at a flat place cannot fail"
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-8)


def require_separate_images(function, images: torch.Tensor, targets) -> None:
    """No image's loss depends on another image or another's target, to the last bit."""
    together = function(images, targets)
    for row in range(len(images)):
        changed = images.flip(0)
        changed[row] = images[row]
        shuffled = {name: each.flip(0) for name, each in targets.items()}
        for name, each in targets.items():
            shuffled[name][row] = each[row]
        assert torch.equal(function(changed, shuffled)[row], together[row])
    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(leaf, targets)[0], leaf)
    assert gradient[0].any() and not gradient[1:].any()
