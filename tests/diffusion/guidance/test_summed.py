"""A sum of scaled functions against the functions themselves."""

import pytest
import torch

from neuraldiffuser.config.guidance import FunctionName, GuidanceSettings
from neuraldiffuser.diffusion.guidance import GUIDANCE, Guidance, SummedGuidance


class Distance(Guidance):
    """Squared distance to a target that is prepared by a factor."""

    def __init__(self, factor, targets=("vae_latent",)):
        self.factor = factor
        self.targets = targets

    def prepare(self, targets):
        return {name: self.factor * target for name, target in targets.items()}

    def __call__(self, images, targets):
        return sum((images - each).square().flatten(1).sum(1) for each in targets.values())


@pytest.fixture
def images():
    return torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture
def targets():
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.rand(3, 3, 4, 4, generator=generator).double()
        for name in ("vae_latent", "clip_text")
    }


def test_functions_of_one_target_do_not_share_what_they_prepare(images, targets):
    first, second = Distance(1.0), Distance(2.0, ("vae_latent", "clip_text"))
    both = SummedGuidance({"first": (first, 0.5), "second": (second, 3.0)})
    assert both.targets == ("vae_latent", "clip_text")
    latent, text = targets["vae_latent"], targets["clip_text"]

    def distance(target):
        return (images - target).square().flatten(1).sum(1)

    expected = 0.5 * distance(latent) + 3 * (distance(2 * latent) + distance(2 * text))
    torch.testing.assert_close(both(images, both.prepare(targets)), expected)


def test_the_gradient_of_a_sum_is_the_sum_of_scaled_gradients(images, targets):
    functions = {"first": (Distance(1.0), 0.5), "second": (Distance(2.0), 3.0)}

    def slope(function):
        leaf = images.clone().requires_grad_()
        losses = function(leaf, function.prepare({"vae_latent": targets["vae_latent"]}))
        return torch.autograd.grad(losses.sum(), leaf)[0]

    expected = sum(scale * slope(function) for function, scale in functions.values())
    torch.testing.assert_close(slope(SummedGuidance(functions)), expected)


def test_every_function_that_a_variant_may_name_is_registered_with_settings():
    assert set(FunctionName.__args__) == set(GuidanceSettings.model_fields) == set(GUIDANCE)
