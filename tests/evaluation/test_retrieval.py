"""Retrieval: its two directions, its vote, its ties, and a plain loop."""

import numpy as np
import pytest
import torch

from neuraldiffuser.config.evaluation import RetrievalSettings
from neuraldiffuser.evaluation.retrieval import (
    SIMILARITIES,
    VOTES,
    choose_candidates,
    cosine_similarity,
    own_wins,
    retrieve,
)


def choose(number, **settings):
    return choose_candidates(number, RetrievalSettings(**settings))


def accuracy(similarities, *, vote="majority"):
    everybody = choose(similarities.shape[-1])["all"]
    found = retrieve(similarities, everybody, vote=vote)
    return {way: successes.sum() / trials.sum() for way, (successes, trials) in found.items()}


def test_cosine_similarity_is_numpys_with_brains_in_rows():
    generator = np.random.default_rng(0)
    brains, images = generator.normal(size=(2, 3, 4)), generator.normal(size=(5, 3, 4))
    found = cosine_similarity(torch.from_numpy(brains), torch.from_numpy(images))
    a, b = brains.reshape(2, -1), images.reshape(5, -1)
    lengths = np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    np.testing.assert_allclose(found, a @ b.T / lengths, rtol=1e-12)


def test_directions_are_the_papers():
    # Brain 0 resembles both images, image 1 most: a brain looking for its image errs. Each image
    # finds its own brain.
    similarities = torch.tensor([[[0.5, 0.6], [0.1, 0.9]]])
    assert accuracy(similarities) == {"image": 0.5, "brain": 1.0}
    assert accuracy(similarities.mT) == {"image": 1.0, "brain": 0.5}


def retrieve_by_loop(similarities, drawn):
    """Top-1 image retrieval of one layer, query by query."""
    hits = []
    for rows in drawn:
        for query in rows:
            hits.append(max(rows, key=lambda image: similarities[query, image]) == query)
    return np.mean(hits)


def test_retrieval_among_draws_is_the_loops():
    generator = np.random.default_rng(0)
    similarities = generator.normal(size=(12, 12)) + 1.5 * np.eye(12)
    drawn = choose(12, candidates=5, draws=7, seed=3)["drawn"]
    successes, trials = retrieve(torch.from_numpy(similarities)[None], drawn, vote="majority")[
        "image"
    ]
    assert trials.sum() == 35
    assert successes.sum() / 35 == pytest.approx(retrieve_by_loop(similarities, drawn))
    assert (successes <= trials).all()


def test_votes_differ_where_one_sure_layer_stands_against_two_unsure_ones():
    # Two layers narrowly prefer image 1, one is sure of image 0, the right one.
    unsure = [[0.50, 0.51], [0.0, 1.0]]
    similarities = torch.tensor([unsure, unsure, [[0.9, 0.1], [0.0, 1.0]]])
    assert accuracy(similarities, vote="majority")["image"] == 0.5
    assert accuracy(similarities, vote="sum")["image"] == 1.0


def test_the_summed_similarity_breaks_a_tied_vote():
    first, second = [[0.6, 0.5], [0.0, 1.0]], [[0.1, 0.9], [0.0, 1.0]]
    # One vote each for query 0; image 1 has the larger sum (1.4 against .7).
    assert accuracy(torch.tensor([first, second]))["image"] == 0.5
    second = [[0.5, 0.55], [0.0, 1.0]]  # now image 0 has it: 1.1 against 1.05
    assert accuracy(torch.tensor([first, second]))["image"] == 1.0


@pytest.mark.parametrize("vote", VOTES)
def test_indifference_retrieves_nothing(vote):
    assert accuracy(torch.ones(3, 4, 4), vote=vote) == {"image": 0.0, "brain": 0.0}
    assert not own_wins(VOTES[vote](torch.ones(1, 4, 4))).any()


def test_random_embeddings_are_retrieved_by_chance():
    embeddings = torch.randn(2, 300, 8, generator=torch.manual_seed(0))
    drawn = choose(300, candidates=20, draws=40)["drawn"]
    found = retrieve(cosine_similarity(*embeddings)[None], drawn, vote="majority")
    for successes, trials in found.values():
        assert successes.sum() / trials.sum() == pytest.approx(1 / 20, abs=0.03)


def test_draws_are_seeded_and_never_repeat_a_candidate():
    settings = {"candidates": 6, "draws": 4, "seed": 1}
    drawn = choose(10, **settings)["drawn"]
    assert drawn.shape == (4, 6)
    assert all(len(set(rows)) == 6 for rows in drawn)
    np.testing.assert_array_equal(drawn, choose(10, **settings)["drawn"])
    assert (drawn != choose(10, **settings | {"seed": 2})["drawn"]).any()


def test_with_fewer_images_than_candidates_all_take_part():
    chosen = choose(10, candidates=300, draws=3)
    assert chosen["drawn"].shape == (3, 10)
    np.testing.assert_array_equal(np.sort(chosen["drawn"], axis=1), [np.arange(10)] * 3)
    np.testing.assert_array_equal(chosen["all"], [np.arange(10)])


def test_a_projection_is_compared_by_direction_alone_and_an_embedding_by_its_deviation():
    generator = torch.manual_seed(0)
    mean = 50 * torch.ones(6)
    targets = mean + torch.randn(8, 6, generator=generator)
    decoded = mean + 0.1 * (targets - mean)  # timid, but right
    scale = torch.rand(8, 1, generator=generator) + 0.5
    direction, deviation = SIMILARITIES["projection"], SIMILARITIES["embedding"]
    np.testing.assert_allclose(
        direction(scale * targets, targets, mean), direction(targets, targets, mean)
    )
    np.testing.assert_allclose(deviation(decoded, targets, mean).diagonal(), np.ones(8), rtol=1e-5)
    # Near the mean all directions are alike, so that a timid embedding would find nothing.
    assert direction(decoded, targets, mean).min() > 0.99
    assert deviation(decoded, targets, mean).min() < 0
