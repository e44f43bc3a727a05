"""Correlation against NumPy's."""

import numpy as np
import torch

from neuraldiffuser.diffusion.guidance.correlation import correlate


def test_it_is_pearsons_of_each_row():
    first, second = np.random.default_rng(0).normal([0.0, 3.0], size=(2, 4, 5, 2))
    second[1] += 2 * first[1]
    expected = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(first, second, strict=True)]
    assert expected[1] > 0.5
    found = correlate(torch.from_numpy(first), torch.from_numpy(second))
    assert np.allclose(found, expected)


def test_what_is_constant_follows_nothing_and_has_no_gradient():
    first = torch.rand(3, 50, generator=torch.Generator().manual_seed(0))
    first[1] = 0.1  # whose mean is not exactly 0.1 in float32
    second = first.flip(0).roll(1, 1)
    leaf = first.requires_grad_()
    found = correlate(leaf, second)
    found.sum().backward()
    assert found[1] == 0 and (found[[0, 2]] != 0).all()
    assert not leaf.grad[1].any() and leaf.grad[[0, 2]].any(dim=1).all()
