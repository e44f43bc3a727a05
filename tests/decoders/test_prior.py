"""The prior against plain float64 loops over the definitions of its parts."""

import math

import numpy as np
import pytest
import torch

from neuraldiffuser.config.decoder import Prior
from neuraldiffuser.decoders.parallel import Share
from neuraldiffuser.decoders.prior import (
    SAMPLING_STEPS,
    Attention,
    FeedForward,
    PriorNetwork,
    TimeEmbedding,
    cosine_schedule,
    draw_noise,
    noise_target,
    prior_loss,
    relative_buckets,
    rotate,
    rotation_tables,
    sample,
)

PRIOR = Prior(depth=2, head_size=6, rotary_size=4, feedforward_factor=2)
TOKENS, WIDTH, LENGTH = 3, 12, 7


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make_network():
    network = PriorNetwork(PRIOR, (TOKENS, WIDTH)).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network


def layer_norm(row, gain):
    return (row - row.mean()) / (row.var(unbiased=False) + 1e-5).sqrt() * gain


def rotated(vector, position):
    vector = vector.clone()
    for pair in range(2):  # rotary_size 4: two pairs of neighbours
        angle = position * 10000.0 ** (-2 * pair / 4)
        first, second = vector[2 * pair].item(), vector[2 * pair + 1].item()
        vector[2 * pair] = first * math.cos(angle) - second * math.sin(angle)
        vector[2 * pair + 1] = second * math.cos(angle) + first * math.sin(angle)
    return vector


def plain_attention(attention, x, bias):
    """One sample; every query, head and key in turn."""
    normed = torch.stack([layer_norm(row, attention.norm.gain) for row in x])
    keys = [attention.null_key_value[0]]
    values = [attention.null_key_value[1]]
    for position, row in enumerate(normed):
        key_value = attention.to_key_value.weight @ row
        keys.append(rotated(key_value[:6], position))
        values.append(key_value[6:])
    rows = []
    for position, row in enumerate(normed):
        query_of_all = attention.to_query.weight @ row
        heads = []
        for head in range(2):
            query = rotated(query_of_all[6 * head : 6 * head + 6], position)
            similarity = torch.stack(
                [
                    16 * torch.dot(query, key) / (query.norm() * key.norm())
                    + bias[head, position, number]
                    for number, key in enumerate(keys)
                ]
            )
            weights = similarity.softmax(0)
            heads.append(sum(w * value for w, value in zip(weights, values, strict=True)))
        output = attention.output.weight @ torch.cat(heads)
        rows.append(layer_norm(output, attention.output_norm.gain))
    return torch.stack(rows)


def test_attention_equals_a_plain_loop():
    attention = Attention(PRIOR, WIDTH, LENGTH).double()
    x = torch.randn(2, LENGTH, WIDTH, dtype=torch.float64)
    bias = torch.randn(2, LENGTH, LENGTH + 1, dtype=torch.float64)
    expected = torch.stack([plain_attention(attention, one, bias) for one in x])
    # The softmax itself is float32.
    torch.testing.assert_close(attention(x, bias), expected, atol=1e-5, rtol=1e-5)


def test_attention_of_the_last_tokens_is_the_end_of_the_whole():
    attention = Attention(PRIOR, WIDTH, LENGTH).double()
    x = torch.randn(2, LENGTH, WIDTH, dtype=torch.float64)
    bias = torch.randn(2, LENGTH, LENGTH + 1, dtype=torch.float64)
    torch.testing.assert_close(attention(x, bias[:, -3:]), attention(x, bias)[:, -3:])


def test_rotation_keeps_similarity_a_function_of_distance():
    cosines, sines = rotation_tables(9, 4)
    query, key = torch.randn(2, 6)
    queries, keys = (rotate(v.expand(9, 6), cosines, sines) for v in (query, key))
    torch.testing.assert_close((queries[7] * keys[5]).sum(), (queries[3] * keys[1]).sum())
    torch.testing.assert_close(queries[:, 4:], query[4:].expand(9, 2))


def test_relative_buckets_follow_t5():
    buckets = relative_buckets(200)
    assert buckets.shape == (200, 201)
    assert buckets[5, :9].tolist() == [5, 4, 3, 2, 1, 0, 0, 0, 0]
    for distance in (16, 40, 100, 127, 199):
        far = 16 + int(math.log(distance / 16) / math.log(8) * 16)
        assert int(buckets[199, 199 - distance]) == min(far, 31)


def test_feedforward_is_swiglu():
    layer = FeedForward(WIDTH, 2).double()
    x = torch.randn(WIDTH, dtype=torch.float64)
    values, gate = (layer.input.weight @ layer_norm(x, layer.norm.gain)).chunk(2)
    expected = layer.output.weight @ (values * gate / (1 + torch.exp(-gate)))
    torch.testing.assert_close(layer(x[None, None])[0, 0], expected)


def test_time_embedding_starts_from_sines_and_cosines():
    embedding = TimeEmbedding(8).double()
    angles = torch.tensor([37 * 10000 ** (-k / 3) for k in range(4)], dtype=torch.float64)
    expected = embedding.layers(torch.cat([angles.sin(), angles.cos()])[None])
    torch.testing.assert_close(
        embedding(torch.tensor([37.0], dtype=torch.float64)), expected, atol=1e-4, rtol=1e-4
    )
    sizes = [tuple(layer.weight.shape) for layer in embedding.layers[::2]]
    assert sizes == [(16, 8), (16, 16), (8, 16)]


def plain_network(network, noised, timestep, brain):
    time = network.time(torch.tensor([float(timestep)]).double())
    x = torch.cat([brain, time, noised + network.positions])
    bias = network.relative_bias.weight[network.buckets].permute(2, 0, 1)
    for attention, feedforward in network.layers():
        x = x + plain_attention(attention, x, bias)
        x = x + feedforward(x[None])[0]
    rows = [layer_norm(row / row.max(), network.norm.gain) for row in x[-TOKENS:]]
    return torch.stack([network.output.weight @ row for row in rows])


def test_network_equals_its_definition():
    network = make_network()
    noised, brain = torch.randn(2, 4, TOKENS, WIDTH, dtype=torch.float64)
    timesteps = torch.tensor([0, 3, 50, 99])
    network.time.float()  # timesteps are float32 in the network
    predicted = network(noised, timesteps, brain)
    network.time.double()
    for number, timestep in enumerate(timesteps.tolist()):
        expected = plain_network(network, noised[number], timestep, brain[number])
        torch.testing.assert_close(predicted[number], expected, atol=2e-4, rtol=2e-4)


def test_a_residual_network_adds_the_brain_and_starts_from_it():
    network = make_network()
    residual = PriorNetwork(PRIOR.model_copy(update={"prediction": "residual"}), (TOKENS, WIDTH))
    noised, brain = torch.randn(2, 4, TOKENS, WIDTH)
    timesteps = torch.tensor([0, 3, 50, 99])
    torch.testing.assert_close(residual(noised, timesteps, brain), brain)
    residual.load_state_dict(network.state_dict())
    network.float()
    expected = network(noised, timesteps, brain) + brain
    torch.testing.assert_close(residual(noised, timesteps, brain), expected)


def test_schedule_is_nichol_and_dhariwals():
    levels = cosine_schedule(100)

    def f(t):
        return math.cos((t / 100 + 0.008) / 1.008 * math.pi / 2) ** 2

    a = 1.0
    for t in range(100):
        a *= 1 - min(max(1 - f(t + 1) / f(t), 0), 0.999)
        assert float(levels[t]) == pytest.approx(a, rel=1e-12)


class Recorder(torch.nn.Module):
    """Stands in for the network: predicts a fixed x0 and keeps what it was shown."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.seen = answer, []
        self.null_target = torch.full_like(answer[0], 7.0)
        self.null_brain = torch.full_like(answer[0], -7.0)

    def forward(self, noised, timesteps, brain):
        self.seen.append((noised, timesteps, brain))
        return self.answer


def test_loss_is_the_mean_square_of_x0_and_hides_conditions_independently():
    target = torch.randn(4000, 2, 3)
    network = Recorder(torch.zeros_like(target))
    loss = prior_loss(
        network,
        torch.zeros_like(target),
        target,
        levels=cosine_schedule(100).float(),
        condition_dropout=0.2,
        generator=torch.Generator().manual_seed(0),
        share=Share(),
    )
    assert float(loss) == pytest.approx(float((target.double() ** 2).mean()), rel=1e-5)
    noised, timesteps, brain = network.seen[0]
    hidden_target = (noised == 7).all(dim=(1, 2))
    hidden_brain = (brain == -7).all(dim=(1, 2))
    assert float(hidden_target.float().mean()) == pytest.approx(0.2, abs=0.03)
    assert float(hidden_brain.float().mean()) == pytest.approx(0.2, abs=0.03)
    assert float((hidden_brain & hidden_target).float().mean()) == pytest.approx(0.04, abs=0.02)
    assert timesteps.min() == 0 and timesteps.max() == 99


def test_noise_is_mixed_by_the_schedule():
    levels = cosine_schedule(10)
    target, noise = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    timesteps = torch.tensor([0, 4, 9])
    noised = noise_target(target, timesteps, noise, levels)
    for row, t in enumerate(timesteps.tolist()):
        a = float(levels[t])
        expected = math.sqrt(a) * target[row] + math.sqrt(1 - a) * noise[row]
        torch.testing.assert_close(noised[row], expected)


def test_released_steps_are_those_of_dalle2_pytorch():
    levels = cosine_schedule(100)
    steps = SAMPLING_STEPS["released"](levels, 20)
    times = [int(t) for t in torch.linspace(-1.0, 100, steps=21)[:-1].int()]
    assert [step[0] for step in steps] == times[:0:-1]
    assert len(steps) == 19 and steps[0][0] == 94
    for t, held, a, _ in steps:
        assert held == float(levels[t]) and a == float(levels[t - 1])
    assert steps[-1][3] is None


def test_exact_steps_use_one_noise_level_per_timestep():
    levels = cosine_schedule(100)
    steps = SAMPLING_STEPS["exact"](levels, 20)
    assert len(steps) == 20 and steps[0][0] == 99 and steps[-1][3] is None
    for (t, held, a, a_next), after in zip(steps, [*steps[1:], None], strict=True):
        assert held == a == float(levels[t])
        assert a_next == (float(levels[after[0]]) if after else None)


@pytest.mark.parametrize("reading", SAMPLING_STEPS)
def test_sampling_equals_a_plain_loop(reading):
    network = make_network()
    network.time.float()
    levels = cosine_schedule(100)
    brain = torch.randn(2, TOKENS, WIDTH, dtype=torch.float64)
    steps = SAMPLING_STEPS[reading](levels, 5)
    noise = torch.randn(2, len(steps), TOKENS, WIDTH, dtype=torch.float64)
    drawn = sample(network, brain, noise, steps)
    for number in range(2):
        x = noise[number, 0]
        for index, (t, held, a, a_next) in enumerate(steps):
            with torch.no_grad():
                x0 = network(x[None], torch.tensor([t]), brain[number][None])[0]
            epsilon = (x - math.sqrt(held) * x0) / math.sqrt(1 - held)
            if a_next is None:
                x = x0
                break
            sigma = math.sqrt((1 - a / a_next) * (1 - a_next) / (1 - a))
            x = (
                math.sqrt(a_next) * x0
                + sigma * noise[number, index + 1]
                + math.sqrt(1 - a_next - sigma**2) * epsilon
            )
        torch.testing.assert_close(drawn[number], x.float().to(drawn), atol=1e-4, rtol=1e-4)


def test_exact_sampling_draws_from_a_gaussian_whose_denoiser_is_known():
    """For x0 ~ N(m, s^2) the best x0 prediction is linear, and DDIM draws must have m and s."""
    mean, deviation, levels = 1.5, 0.6, cosine_schedule(100)

    class Best(torch.nn.Module):
        def forward(self, noised, timesteps, _):
            a = levels[timesteps][:, None, None].to(noised)
            gain = a.sqrt() * deviation**2 / (a * deviation**2 + 1 - a)
            return mean + gain * (noised - a.sqrt() * mean)

    noise = torch.randn(20000, 100, 1, 1, generator=torch.Generator().manual_seed(0))
    drawn = sample(Best(), torch.zeros(20000, 1, 1), noise, SAMPLING_STEPS["exact"](levels, 100))
    assert float(drawn.mean()) == pytest.approx(mean, abs=0.02)
    assert float(drawn.std()) == pytest.approx(deviation, abs=0.02)


def test_noise_depends_on_seed_id_and_draw_alone():
    ids = np.array([7, 72999, 41])
    noise = draw_noise(ids, seed=1, draw=0, shape=(2, 3))
    turned = draw_noise(ids[::-1], seed=1, draw=0, shape=(2, 3))
    assert torch.equal(noise.flip(0), turned)
    assert torch.equal(draw_noise(ids[1:2], seed=1, draw=0, shape=(2, 3))[0], noise[1])
    for other in ({"seed": 2, "draw": 0}, {"seed": 1, "draw": 1}):
        assert not torch.equal(draw_noise(ids, shape=(2, 3), **other), noise)
